"""Name the place in a user's code where an error was raised."""

from __future__ import annotations

import re
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightning_modules.specs.errors import UserError

THIS_LAYER = Path(__file__).parent.parent
# The layers that run users' code, installed packages, and Python's own.
OTHER_FOLDERS = (THIS_LAYER, THIS_LAYER.parent / "studies", Path(sysconfig.get_paths()["stdlib"]))
INSTALLED_FOLDERS = ("site-packages", "dist-packages")
WORKER_FRAME = re.compile(r'File "([^"]+)", line (\d+)')  # in the text of an error of a loader's worker process


@contextmanager
def locate_errors(label: str) -> Iterator[None]:
    """Turn what a user's code raises in this block into a ``UserError`` with its label, file and line.

    The error is its cause, so that faults of the machine can still be told from others.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # a user's code may raise anything
        raise UserError(f"{label} fails{describe_place(error)}: {describe_error(error)}") from error


def describe_error(error: BaseException) -> str:
    """Return the type and the first line of an error's text; for one of a worker process, the original's."""
    lines = str(error).strip().splitlines()
    if not lines:
        return type(error).__name__
    if "Original Traceback" in str(error):
        return lines[-1].strip()
    return f"{type(error).__name__}: {lines[0]}"


def describe_place(error: BaseException) -> str:
    """Return `` at my_data.py, line 41``, the innermost line of a user's code; empty where it is unknown."""
    frames = [(frame.filename, frame.lineno or 0) for frame in traceback.extract_tb(error.__traceback__)]
    frames += [(file, int(line)) for file, line in WORKER_FRAME.findall(str(error))]
    for file, line in reversed(frames):
        if _is_user_file(file):
            return f" at {Path(file).name}, line {line}"
    return ""


def _is_user_file(file: str) -> bool:
    path = Path(file)
    if file.startswith("<") or any(part in INSTALLED_FOLDERS for part in path.parts):
        return False
    return not any(path.is_relative_to(folder) for folder in OTHER_FOLDERS)
