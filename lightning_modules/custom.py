"""Anybody's network or data module, from a dotted path and arguments."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from typing import Any

from torch import nn

from lightning_modules.networks import Custom
from lightning_modules.values import Misuse, did_you_mean

OTHER_LIGHTNING = "lightning.pytorch."  # the package `lightning`: the same classes once more, and others to Python


def build_custom(network: Custom) -> nn.Module:
    """What the class or function at the path returns for the arguments.

    Raises:
        Misuse: where nothing is found there, it does not take the arguments, or what it returns is no module.
    """
    made = call(network.class_path, dict(network.init_args))
    if not isinstance(made, nn.Module):
        raise Misuse(f"{network.class_path} returned {_kind(made)}; expected an nn.Module.")
    return made


def trains_itself(module: nn.Module) -> bool:
    """Whether a module brings its own training: whether it is a ``LightningModule``."""
    loaded = sys.modules.get("pytorch_lightning")  # a thing of it exists only where it is loaded
    return loaded is not None and isinstance(module, loaded.LightningModule)


def call(class_path: str, arguments: dict[str, Any]) -> Any:
    """Call what stands at a dotted path.

    Raises:
        Misuse: where nothing is found there, it raises, or it returns a thing of the package ``lightning``.
    """
    factory = found(class_path)
    told = f"{class_path}({', '.join(f'{name}={value!r}' for name, value in arguments.items())})"
    if unfit := _unfit(factory, arguments):
        raise Misuse(f"{told} cannot be called: {unfit}. It takes {inspect.signature(factory)}.")
    try:
        made = factory(**arguments)
    except Exception as error:  # whatever it is, it is the user's code: the text names it, the cause shows where
        raise Misuse(f"{told} failed: {type(error).__name__}: {error}") from error
    if any(kind.__module__.startswith(OTHER_LIGHTNING) for kind in type(made).__mro__):
        raise Misuse(
            f"{class_path} is made with the package `lightning`, and this one trains with `pytorch_lightning`. "
            "Import pytorch_lightning there: it has the same classes."
        )
    return made


def found(class_path: str) -> Callable[..., Any]:
    """The class or function at a dotted path.

    Raises:
        Misuse: where there is no such module, or nothing of that name in it.
    """
    module_name, _, name = class_path.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except (ImportError, SyntaxError) as error:
        raise Misuse(f"{class_path!r} cannot be imported: {error}. Is its folder on the path?") from error
    if not callable(getattr(module, name, None)):
        raise Misuse(f"{module_name} has no class or function {name!r}.{did_you_mean(name, vars(module))}")
    factory: Callable[..., Any] = getattr(module, name)
    return factory


def _unfit(factory: Callable[..., Any], arguments: dict[str, Any]) -> str:
    """Why a callable does not take some arguments; empty where it does, or where that cannot be known."""
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):
        return ""
    try:
        signature.bind(**arguments)
    except TypeError as error:
        return str(error)
    return ""


def _kind(made: object) -> str:
    return f"a {type(made).__name__}" if made is not None else "nothing"
