"""Ablations by folder, whose names are the files'; and one by the path of its file, anywhere on disk."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
import traceback
from pathlib import Path
from types import ModuleType

from ablations._contract import Ablation, InvalidAblation
from lightning_modules.values import Misuse, did_you_mean

FOLDER = Path(__file__).resolve().parent
OWN = ("lightning_modules", "ablations", "studies", "reports")

_users_folders: set[Path] = set()  # of this process's files: what is imported from there is imported anew


class UnknownAblation(Misuse):
    """No ablation of that name; the text suggests the nearest one and lists all."""


def names() -> tuple[str, ...]:
    """The names of all ablations, in alphabetical order. Imports none of them."""
    return tuple(sorted(file.stem for file in FOLDER.glob("[!_]*.py")))


def name_of(name: str) -> str:
    """An ablation's name: as given, or the stem of its file's path."""
    file = _file(name)
    return file.stem if file else name


def import_paths(name: str) -> tuple[str, ...]:
    """Folders in which Python must look for what an ablation uses: that of its file, where a path is given."""
    file = _file(name)
    return (str(file.parent),) if file and file.parent != FOLDER else ()


def load(name: str) -> Ablation:
    """The ablation of that name; or that of a file, by its path: what ends in ``.py`` or has a slash in it.

    A file's folder is put first on Python's path, so that the file, and what it names, finds its neighbours; these are
    imported anew each time, and are not those of a file loaded before, from another folder.

    Raises:
        UnknownAblation: where the folder holds none, or there is no such file.
        InvalidAblation: where its file cannot be imported, or defines no ``ABLATION``.
    """
    file = _file(name)
    module = _imported(file) if file and file.parent != FOLDER else _named(name_of(name))
    ablation = getattr(module, "ABLATION", None)
    if not isinstance(ablation, Ablation):
        raise InvalidAblation(f"{_shown(module)} must define ABLATION = Ablation(...); it defines {ablation!r}.")
    return ablation


def _file(name: str) -> Path | None:
    """The file that a name is the path of; ``None`` where it is a name."""
    is_path = name.endswith(".py") or "/" in name or os.sep in name
    return Path(name).expanduser().resolve() if is_path else None


def _named(name: str) -> ModuleType:
    if name not in names():
        file = Path(f"{name}.py")
        here = f" There is a file {file} here: give its path, ./{file}." if file.is_file() else ""
        raise UnknownAblation(
            f"No ablation named {name!r}.{did_you_mean(name, names())} There are: {', '.join(names())}.{here}"
        )
    return importlib.import_module(f"ablations.{name}")


def _imported(file: Path) -> ModuleType:
    """A file as a module of its own name, run anew each time."""
    _check(file)
    _look_first_in(file.parent)
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[file.stem] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Misuse:
        raise
    except Exception as error:
        raise InvalidAblation(f"{_where(error, file)}: {type(error).__name__}: {_said(error)}") from error
    return module


def _look_first_in(folder: Path) -> None:
    """Let Python find modules in a folder of the user's before any other, as they are now."""
    _users_folders.add(folder)
    for name in [name for name, module in sys.modules.items() if _is_users(name, module)]:
        del sys.modules[name]
    sys.path[:] = [str(folder), *(place for place in sys.path if place != str(folder))]
    importlib.invalidate_caches()


def _is_users(name: str, module: object) -> bool:
    """Whether a module was found by way of a user's folder: as a file in it, or within a package there."""
    root = name.partition(".")[0]
    if root in (*OWN, "__main__", "__mp_main__"):
        return False
    known = getattr(module, "__dict__", {})
    places = [known.get("__file__") or "", *(known.get("__path__") or ())]
    found = [Path(os.path.realpath(place)) for place in places if place]
    return any(
        place == folder / f"{root}.py" or place.is_relative_to(folder / root)
        for place in found
        for folder in _users_folders
    )


def _check(file: Path) -> None:
    if not file.is_file():
        raise UnknownAblation(f"there is no file {file}.")
    if file.suffix != ".py" or not re.fullmatch(r"[A-Za-z_][\w-]*", file.stem):
        raise InvalidAblation(
            f"{file.name} is no name for an ablation; expected letters, digits, _ and -, and the ending .py."
        )
    other = _taken(file)
    if other:
        raise InvalidAblation(f"{file} cannot be called {file.stem!r}: that is {other}. Rename the file.")


def _taken(file: Path) -> str:
    """What bears the name of a file already; empty where nothing does."""
    if file.stem in names():
        return "an ablation of this package"
    if file.stem in sys.stdlib_module_names:
        return "a module of Python's own"
    known = sys.modules.get(file.stem)
    place = getattr(known, "__file__", None) or "elsewhere"
    if known is None or (place != "elsewhere" and Path(place).resolve() == file):
        return ""
    return f"a module that is in use, from {place}"


def _where(error: Exception, file: Path) -> str:
    """File and line of the user's that an error comes from: of the syntax, or the last one of that file that ran."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == file]
    return f"{file}, line {lines[-1]}" if lines else str(file)


def _said(error: Exception) -> str:
    return error.msg if isinstance(error, SyntaxError) else str(error)


def _shown(module: ModuleType) -> str:
    file = Path(str(module.__file__))
    return f"ablations/{file.name}" if file.parent == FOLDER else str(file)
