"""What decides the bits beside setup and seed: the code that trains, and the platform it runs on."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from functools import cache
from importlib import metadata
from pathlib import Path

from studies.machine import device_name

ENTRY = "studies.training"
FIRST_PARTY = ("lightning_modules", "ablations", "studies", "reports")


@cache
def code_digest(entry: str = ENTRY) -> str:
    """A digest of the syntax trees of a module and of all first-party modules that it imports, directly or not.

    Docstrings, comments and layout do not count. Package ``__init__`` files count only where they are imported by name.
    """
    digest = hashlib.sha256()
    for name in sorted(imported_modules(entry)):
        digest.update(f"{name}\n{_bare_source(_source(name))}\n".encode())
    return digest.hexdigest()[:16]


def imported_modules(entry: str) -> set[str]:
    """First-party modules reachable from one by import statements, wherever in the file they stand."""
    found: set[str] = set()
    waiting = [entry]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        waiting += _imports(_source(name))
    return found


def platform_digest(device: str, threads: int) -> str:
    """A digest of what changes bits on equal code: versions of torch and numpy, model of CPU or GPU, threads."""
    facts = (metadata.version("torch"), metadata.version("numpy"), device, device_name(device), str(threads))
    return hashlib.sha256("|".join(facts).encode()).hexdigest()[:16]


def _imports(source: str) -> list[str]:
    names: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            names += [name for name in inner if _is_first_party(name) and _exists(name)] or [node.module]
    return [name for name in names if _is_first_party(name)]


def _is_first_party(name: str) -> bool:
    return name.split(".", maxsplit=1)[0] in FIRST_PARTY


def _exists(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _source(name: str) -> str:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"no module named {name!r}, though the training code imports it", name=name)
    return Path(spec.origin).read_text(encoding="utf-8")


def _bare_source(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:]
    return ast.dump(tree)
