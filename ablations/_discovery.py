"""Find and load ablations: by name from this folder, or by the path of a user's file, anywhere on disk."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.util
import os
import re
import reprlib
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

from ablations._contract import Ablation
from ablations._errors import InvalidAblation, UnknownAblation
from lightning_modules.specs.errors import UserError, did_you_mean

ABLATIONS_FOLDER = Path(__file__).resolve().parent
FIRST_PARTY_PACKAGES = ("lightning_modules", "ablations", "studies", "reports")
VALID_FILE_STEM = re.compile(r"[A-Za-z_][\w-]*")


class _OwnPackageFinder(importlib.abc.MetaPathFinder):
    """Finds this project's packages where they are installed, whatever folders a user has by their names."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Find one of the four packages; leave every other module to the finders that follow."""
        del path, target
        if fullname not in FIRST_PARTY_PACKAGES:
            return None
        return PathFinder.find_spec(fullname, [str(ABLATIONS_FOLDER.parent)])


OWN_PACKAGE_FINDER = _OwnPackageFinder()

# Folders of the users' files that this process has loaded. Modules found there are imported again for each file, since
# two folders may hold different modules of one name.
_user_folders: set[Path] = set()


def names() -> tuple[str, ...]:
    """The names of all ablations of this package, in alphabetical order. Imports none of them."""
    return tuple(sorted(file.stem for file in ABLATIONS_FOLDER.glob("[!_]*.py")))


def ablation_name(name: str | os.PathLike[str]) -> str:
    """The name of an ablation that is given by its name or by the path of its file, whose stem it is.

    Raises:
        InvalidAblation: for a user's file with the name of an ablation of this package, whose study it would mean.
        UnknownAblation: for what is neither a text nor a path.
    """
    file = _resolve_file(name)
    if file is None:
        return os.fspath(name)
    if file.parent != ABLATIONS_FOLDER and file.stem in names():
        raise InvalidAblation(_describe_name_clash(file, "an ablation of this package"))
    return file.stem


def find_import_paths(name: str | os.PathLike[str]) -> tuple[str, ...]:
    """The folders that Python's import path needs for an ablation: its file's, if that is a user's file."""
    file = _resolve_file(name)
    if file is None or file.parent == ABLATIONS_FOLDER:
        return ()
    return (str(file.parent),)


def load(name: str | os.PathLike[str]) -> Ablation:
    """Load an ablation of this package by name, or a user's ablation by the path of its file.

    A text that ends in ``.py`` or contains a slash is a path. The folder of that file is put first on Python's import
    path, so that the file and the class paths in it find modules beside it. Such modules are imported again each time,
    and never taken from the folder of a file loaded before.

    Raises:
        UnknownAblation: if there is no ablation of that name, or no such file; for what is neither a text nor a path.
        InvalidAblation: if the file cannot be imported, or defines no ``ABLATION``.
    """
    file = _resolve_file(name)
    if file is None or file.parent == ABLATIONS_FOLDER:
        module = _import_named(ablation_name(name))
    else:
        module = _import_file(file)
    ablation = getattr(module, "ABLATION", None)
    if not isinstance(ablation, Ablation):
        raise InvalidAblation(
            f"{_display_path(module)} must define ABLATION = Ablation(...); {_describe_definition(module, ablation)}."
        )
    return ablation


def _describe_definition(module: ModuleType, ablation: object) -> str:
    """What a file without an ablation under the expected name defines instead."""
    if ablation is not None:
        return f"it defines {ablation!r}"
    names_used = [name for name, value in vars(module).items() if isinstance(value, Ablation)]
    return f"its ablation is called {', '.join(names_used)}" if names_used else "it defines no ablation"


def _resolve_file(name: str | os.PathLike[str]) -> Path | None:
    """The file that a text is the path of; ``None`` for the name of an ablation."""
    if not isinstance(name, (str, os.PathLike)):
        raise UnknownAblation(
            f"{name!r} names no ablation; expected a name, such as 'depth', or the path of a file, such as './mine.py'."
        )
    text = os.fspath(name)
    if not (text.endswith(".py") or "/" in text or os.sep in text):
        return None
    try:
        file = Path(text).expanduser().resolve()
        file.exists()  # raises for a name that no file system has
    except (OSError, RuntimeError, ValueError) as error:  # too long a name; no home directory; a null byte
        reason = error.strerror if isinstance(error, OSError) else str(error).rstrip(".")
        raise UnknownAblation(f"there is no file {reprlib.repr(text)}: {reason}.") from None
    return file


def _import_named(name: str) -> ModuleType:
    if name not in names():
        file = Path(f"{name}.py")
        file_hint = f" There is a file {file} in this folder: give its path, ./{file}." if file.is_file() else ""
        hint = file_hint or did_you_mean(name, names())  # first: the list is long
        raise UnknownAblation(f"No ablation named {name!r}.{hint} There are: {', '.join(names())}.")
    with _located_errors(ABLATIONS_FOLDER / f"{name}.py"):
        return importlib.import_module(f"ablations.{name}")


def _import_file(file: Path) -> ModuleType:
    """Execute a user's file as a top-level module of its own name, even if it was loaded before."""
    if not file.is_file():
        hint = ", which is a folder; expected a file in it" if file.is_dir() else ""
        raise UnknownAblation(f"there is no file {file}{hint}.")
    require_valid_file_name(file)
    _prioritize_folder(file.parent)
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Registered before it runs, as Python's own import does: its classes are looked up there by their class paths.
    sys.modules[file.stem] = module
    with _located_errors(file):
        spec.loader.exec_module(module)
    return module


@contextmanager
def _located_errors(file: Path) -> Iterator[None]:
    """Tell whatever the code of an ablation's file raises by file and line; the cause is chained."""
    try:
        yield
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise InvalidAblation(
            f"{_error_location(error, file)}: {type(error).__name__}: {_error_message(error)}"
        ) from error


def _prioritize_folder(folder: Path) -> None:
    """Put a user's folder first on the import path, and forget the modules imported from users' folders."""
    _user_folders.add(folder)
    protect_own_packages()
    for name, module in list(sys.modules.items()):
        if _is_user_module(name, module):
            del sys.modules[name]
    other_folders = [entry for entry in sys.path if entry != str(folder)]
    sys.path[:] = [str(folder), *other_folders]
    importlib.invalidate_caches()  # else a file that was written a moment ago may not be found


def protect_own_packages() -> None:
    """Let this project's packages win over folders such as ``reports/`` beside a user's file."""
    if OWN_PACKAGE_FINDER not in sys.meta_path:
        sys.meta_path.insert(0, OWN_PACKAGE_FINDER)


def _is_user_module(name: str, module: object) -> bool:
    """Whether a module is a file in a user's folder, or belongs to a package there."""
    root_name = name.partition(".")[0]
    if root_name in (*FIRST_PARTY_PACKAGES, "__main__", "__mp_main__"):
        return False
    # Read from its dictionary: a lazy module's attributes could import something, and not every entry is a module.
    attributes = getattr(module, "__dict__", {})
    locations = [attributes.get("__file__") or "", *(attributes.get("__path__") or ())]
    for location in filter(None, locations):
        path = Path(os.path.realpath(location))
        for folder in _user_folders:
            if path == folder / f"{root_name}.py" or path.is_relative_to(folder / root_name):
                return True
    return False


def module_name(file: Path) -> str:
    """The name by which Python imports an ablation's file, as the class paths of what it defines begin."""
    return f"ablations.{file.stem}" if file.resolve().parent == ABLATIONS_FOLDER else file.stem


def require_valid_file_name(file: Path) -> None:
    """Check the name of a user's file, which need not exist.

    Raises:
        InvalidAblation: for a name that is no file's of an ablation, or that another module has.
    """
    if file.suffix != ".py" or not VALID_FILE_STEM.fullmatch(file.stem):
        raise InvalidAblation(
            f"{file.name} is not a valid file name for an ablation; expected letters, digits, _ and -, and the "
            "extension .py."
        )
    namesake = _describe_namesake(file)
    if namesake:
        raise InvalidAblation(_describe_name_clash(file, namesake))


def _describe_name_clash(file: Path, namesake: str) -> str:
    return f"{file} cannot be named {file.stem!r}: that is the name of {namesake}. Rename the file."


def _describe_namesake(file: Path) -> str:
    """What already has the name of a user's file; empty if nothing has."""
    if file.stem in names():
        return "an ablation of this package"
    # A user's file is imported under its stem and would hide a module of that name.
    if file.stem in sys.stdlib_module_names:
        return "a module of Python's standard library"
    module = sys.modules.get(file.stem)
    if module is None or _is_user_module(file.stem, module):
        return ""  # a module of a file loaded before is forgotten when the next one is loaded
    module_file = getattr(module, "__file__", None)
    if not module_file:
        return "a module that is already imported"
    if Path(module_file).resolve() == file:
        return ""  # this file, loaded before
    return f"a module that is already imported, from {module_file}"


def _error_location(error: BaseException, file: Path) -> str:
    """File and line of a user's error: of the syntax error, or the last line of that file in the traceback."""
    if isinstance(error, SyntaxError):  # of a file that is no text, Python names neither file nor line
        return f"{error.filename or file}, line {error.lineno}" if error.lineno else str(error.filename or file)
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename) == file]
    return f"{file}, line {lines[-1]}" if lines else str(file)


def _error_message(error: BaseException) -> str:
    return error.msg if isinstance(error, SyntaxError) else str(error)


def _display_path(module: ModuleType) -> str:
    file = Path(str(module.__file__))
    return f"ablations/{file.name}" if file.parent == ABLATIONS_FOLDER else str(file)


# At once, since a folder such as reports/ in the current one comes first on the import path of a notebook, and under
# ``python -m``.
protect_own_packages()
