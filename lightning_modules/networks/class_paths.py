"""Import a user's class or function by its dotted path, and call it."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import numpy as np

from lightning_modules.rng import RngState
from lightning_modules.specs.errors import UserError, did_you_mean
from lightning_modules.specs.values import Leaf
from lightning_modules.user_code.errors import describe_place

# Lightning is published as two packages with equal but distinct classes: `isinstance` fails across them.
LIGHTNING_PACKAGE_PREFIX = "lightning.pytorch."


def call_class_path(class_path: str, arguments: Mapping[str, Leaf]) -> Any:
    """Call the class or function at a dotted path.

    Raises:
        UserError: if there is none, it does not accept the arguments, it raises, or it returns an object of the package
            ``lightning`` instead of ``pytorch_lightning``.
    """
    factory = import_callable(class_path)
    call = f"{class_path}({', '.join(f'{name}={value!r}' for name, value in arguments.items())})"
    mismatch = _signature_mismatch(factory, arguments)
    if mismatch:
        raise UserError(f"{call} cannot be called: {mismatch}. Its signature is {inspect.signature(factory)}.")
    try:
        instance = factory(**arguments)
    except (Exception, SystemExit) as error:  # a user's code may raise anything; the cause is chained
        raise UserError(f"{call} failed{describe_place(error)}: {type(error).__name__}: {error}") from error
    if any(base.__module__.startswith(LIGHTNING_PACKAGE_PREFIX) for base in type(instance).__mro__):
        raise UserError(
            f"{class_path} returned an object of the package `lightning`; expected one of `pytorch_lightning`. "
            "Import pytorch_lightning there: it has the same classes."
        )
    return instance


def import_callable(class_path: str) -> Callable[..., Any]:
    """Import the class or function at a dotted path.

    Raises:
        UserError: if there is no such module, it cannot be imported, or it has no such class or function.
    """
    module_name, _, name = class_path.rpartition(".")
    try:
        module = _import_apart(module_name)
    except ModuleNotFoundError as error:
        reason = f"{class_path!r} cannot be imported{describe_place(error)}: {error}."
        is_missing = error.name is not None and f"{module_name}.".startswith(f"{error.name}.")
        raise UserError(f"{reason} Is its folder on Python's path?" if is_missing else reason) from error
    except (Exception, SystemExit) as error:  # a user's module may raise anything; the cause is chained
        place = describe_place(error)
        raise UserError(f"{class_path!r} cannot be imported{place}: {type(error).__name__}: {error}") from error
    if not callable(getattr(module, name, None)):
        raise UserError(f"{module_name} has no class or function {name!r}.{did_you_mean(name, vars(module))}")
    factory: Callable[..., Any] = getattr(module, name)
    return factory


def _import_apart(module_name: str) -> ModuleType:
    """Import a module that may seed or draw from the global generators, and leave these as they are.

    Else a ``torch.manual_seed(0)`` at the top of a file would decide the weights of the first network that is built
    from it, in every process, whatever the trial's seed.
    """
    if module_name in sys.modules:
        return importlib.import_module(module_name)
    with RngState(np.random.default_rng(0)):
        return importlib.import_module(module_name)


def _signature_mismatch(factory: Callable[..., Any], arguments: Mapping[str, Leaf]) -> str:
    """Why a callable does not accept some arguments; empty if it does, or if its signature is unknown."""
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):
        return ""  # of classes written in C
    try:
        signature.bind(**arguments)
    except TypeError as error:
        return str(error)
    return ""
