"""What decides the bits beside setup and seed: the code that trains, and the platform it runs on."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib import metadata
from importlib.machinery import ModuleSpec
from pathlib import Path

from lightning_modules.spec import Setup
from lightning_modules.values import flatten
from studies.machine import device_name

ENTRY = "studies.training"
FIRST_PARTY = ("lightning_modules", "ablations", "studies", "reports")
INSTALLED = ("site-packages", "dist-packages")


def code_digest(entry: str = ENTRY) -> str:
    """A digest of the syntax trees of a module and of all first-party modules that it imports, directly or not.

    Docstrings, comments and layout do not count. Package ``__init__`` files count only where they are imported by name.
    """
    return _hashed(imported_modules(entry))


def user_code_digest(class_paths: Iterable[str]) -> str:
    """A digest of the modules behind the user's classes and of all that these import; empty where there are none.

    Installed packages count by name and version, Python's own modules not at all, what :func:`code_digest` covers not
    once more, and the others by their syntax trees.
    """
    names = _closure({path.rpartition(".")[0] for path in class_paths})
    names = names - what_trains() if names else names
    return _hashed(names) if names else ""


def class_paths(setups: Iterable[Setup]) -> tuple[str, ...]:
    """Every dotted path by which setups name a class: of a network, of a donor's network, of data."""
    leaves = [item for setup in setups for item in flatten(setup).items()]
    return tuple(
        sorted({str(leaf) for path, leaf in leaves if path.endswith(".class_path") and ".init_args." not in path})
    )


def imported_modules(entry: str) -> set[str]:
    """First-party modules reachable from one by import statements, wherever in the file they stand."""
    return {name for name in _closure({entry}, first_party_alone=True) if name == entry or _is_first_party(name)}


@cache
def what_trains() -> frozenset[str]:
    """The modules that :func:`code_digest` covers: a tenth of a second, once per process."""
    return frozenset(imported_modules(ENTRY))


def platform_digest(
    device: str, threads: int, models: Iterable[str] = (), workers: int = 1, also: Iterable[str] = ()
) -> str:
    """A digest of what changes bits on equal code: versions of torch and numpy, models, threads, workers of a trial.

    Args:
        models: of CPU or GPU, of all machines that may train it; this machine's by default.
        also: further distributions whose versions count.
    """
    model = " or ".join(models) or device_name(device)
    together = (f"{workers} workers",) if workers > 1 else ()
    further = (f"{name} {metadata.version(name)}" for name in also)
    facts = (*_versions(), device, model, str(threads), *together, *further)
    return hashlib.sha256("|".join(facts).encode()).hexdigest()[:16]


@cache
def _versions() -> tuple[str, str]:
    """Of torch and numpy. To look them up takes longer than all else that is digested for a trial."""
    return metadata.version("torch"), metadata.version("numpy")


def _closure(entries: Iterable[str], *, first_party_alone: bool = False) -> set[str]:
    """Modules reachable by import statements; of installed packages the root alone, of Python's own none."""
    found: set[str] = set()
    waiting = list(entries)
    while waiting:
        name = waiting.pop()
        root = name.partition(".")[0]
        if root in sys.stdlib_module_names or name in found:
            continue
        if _is_installed(root):
            found.add(root)
            continue
        found.add(name)
        imported = _imports(name)
        waiting += [each for each in imported if _is_first_party(each)] if first_party_alone else imported
    return found


def _imports(name: str) -> list[str]:
    """What a module imports, by whole names; of a user's module, its packages too: Python runs them first."""
    spec = _spec(name)
    source = _source(spec) if spec else ""
    names: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += _imported_from(node, spec.parent or "" if spec else "")
    return names if _is_first_party(name) else [*names, *_packages(name)]


def _imported_from(node: ast.ImportFrom, package: str) -> list[str]:
    module = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
    root = module.partition(".")[0]
    if root in sys.stdlib_module_names or _is_installed(root):
        return [module]
    spec = _spec(module)
    if spec is None or spec.submodule_search_locations is None:
        return [module]
    inner = [f"{module}.{alias.name}" for alias in node.names]
    modules = [each for each in inner if _spec(each)]
    return modules if len(modules) == len(inner) else [module, *modules]


def _packages(name: str) -> Iterator[str]:
    while name := name.rpartition(".")[0]:
        yield name


def _is_first_party(name: str) -> bool:
    return name.partition(".")[0] in FIRST_PARTY


def _is_installed(root: str) -> bool:
    """Whether a package came from a distribution, and is not a folder that its user works in."""
    spec = None if _is_first_party(root) else _spec(root)
    places = [spec.origin or "", *(spec.submodule_search_locations or ())] if spec else []
    return any(part in INSTALLED for place in places for part in Path(place).parts)


def _spec(name: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError):  # its package is no package; or it is being imported as a script
        return None


def _source(spec: ModuleSpec) -> str:
    """A module's text; empty where it has none."""
    file = Path(spec.origin or "")
    return file.read_text(encoding="utf-8") if file.suffix == ".py" else ""


def _hashed(names: Iterable[str]) -> str:
    return hashlib.sha256("".join(_fact(name) for name in sorted(names)).encode()).hexdigest()[:16]


def _fact(name: str) -> str:
    """A module as far as it counts: its bare source, or its distribution's version."""
    spec = _spec(name)
    if _is_installed(name.partition(".")[0]):
        return f"{name} {_version(name)}\n"
    return f"{name}\n{_bare_source(_source(spec)) if spec else 'absent'}\n"


@cache
def distributions() -> Mapping[str, list[str]]:
    """Which distributions each importable package came from: a fifth of a second, once per process."""
    return metadata.packages_distributions()


@cache
def _version(root: str) -> str:
    found = distributions().get(root, ())
    return ", ".join(sorted({f"{name} {metadata.version(name)}" for name in found})) or "no version"


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
