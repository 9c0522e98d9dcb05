"""Anybody's network, from a dotted path and arguments."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from torch import nn

from lightning_modules.networks import Custom
from lightning_modules.values import Misuse, did_you_mean


def build_custom(network: Custom) -> nn.Module:
    """What the class or function at the path returns for the arguments.

    Raises:
        Misuse: where nothing is found there, it does not take the arguments, or what it returns is no module.
    """
    made = call(network.class_path, dict(network.init_args))
    if not isinstance(made, nn.Module):
        raise Misuse(f"{network.class_path} returned a {type(made).__name__}; expected an nn.Module.")
    return made


def call(class_path: str, arguments: dict[str, Any]) -> Any:
    """Call what stands at a dotted path.

    Raises:
        Misuse: where nothing is found there, or it does not take the arguments.
    """
    factory = found(class_path)
    try:
        return factory(**arguments)
    except (TypeError, ValueError) as error:
        told = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
        raise Misuse(f"{class_path}({told}) failed: {error}") from error


def found(class_path: str) -> Callable[..., Any]:
    """The class or function at a dotted path.

    Raises:
        Misuse: where there is no such module, or nothing of that name in it.
    """
    module_name, _, name = class_path.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise Misuse(f"{class_path!r} cannot be imported: {error}. Is its folder on the path?") from error
    if not callable(getattr(module, name, None)):
        raise Misuse(f"{module_name} has no class or function {name!r}.{did_you_mean(name, vars(module))}")
    factory: Callable[..., Any] = getattr(module, name)
    return factory
