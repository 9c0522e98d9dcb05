"""Digests of what decides a trial's bits besides setup and seed: training code, the user's code, and platform."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import pkgutil
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib import metadata
from importlib.machinery import BuiltinImporter, FrozenImporter, ModuleSpec, PathFinder
from pathlib import Path

import ablations
from lightning_modules.specs.errors import UserError
from lightning_modules.specs.setup import Setup
from lightning_modules.specs.values import flatten_fields
from studies.hardware import device_name

TRAINING_MODULE = "studies.training.train"  # trains a trial on any machine, without Ray, MLflow or Optuna
VIEWS_MODULE = "lightning_modules.specs.notebook_html"
# What ablations are declared with: specs, which the code digest covers, and the contract, which no training reads.
# Neither they nor what they import count as the user's own code, else every new claim or network would change it.
USER_FACADES = frozenset({"ablations", "lightning_modules.spec"})
# What an ablation declares besides its arms; see `_without_declarations`.
UNTRAINED_FIELDS = frozenset(
    {"question", "varies", "claims", "forced", "property_studied", "reference", "replications"}
)

NAMING_FIELDS = ("id", "attr", "value", "name")  # of syntax: a name, an attribute, a text, an alias

# All layers, not only those that train: imports are followed wherever they lead.
FIRST_PARTY_PACKAGES = ("lightning_modules", "ablations", "studies", "reports")
# Syntax that only makes a value: evaluating it changes nothing.
WRITTEN_OUT_NODES = (
    ast.Constant, ast.Name, ast.Tuple, ast.List, ast.Dict, ast.keyword, ast.expr_context, ast.UnaryOp, ast.unaryop,
)  # fmt: skip

# The methods by which IPython shows an object. Of a user's class no other counts as a view, whatever its name.
IPYTHON_VIEWS = frozenset(
    f"_repr_{kind}_"
    for kind in ("html", "png", "svg", "jpeg", "pdf", "markdown", "latex", "json", "javascript", "pretty", "mimebundle")
) | {"_ipython_display_"}

# Folders of pip and conda, and of Debian's own Python.
INSTALLED_PACKAGE_FOLDERS = ("site-packages", "dist-packages")


def code_digest(entry: str = TRAINING_MODULE) -> str:
    """Digest the syntax trees of a module and of all first-party modules that it imports, directly or indirectly.

    Docstrings, comments, layout and the views of objects do not count. Package ``__init__`` files count only where
    they are imported by name.
    """
    return _hash_modules(training_modules() if entry == TRAINING_MODULE else imported_modules(entry))


def user_code_digest(class_paths: Iterable[str]) -> str:
    """Digest the modules of the user's classes and everything that these import; empty where there are none.

    Installed packages count by name and version, the standard library does not count, modules that
    :func:`code_digest` covers do not count again, and all others count by their syntax trees: without docstrings,
    comments, and the claims and the like of an ablation that stands beside the networks.
    """
    own_modules = {path.rpartition(".")[0] for path in class_paths}
    names = _import_closure(own_modules)
    if names:
        names -= training_modules()
    return _hash_modules(names, declaring=own_modules) if names else ""


def collect_class_paths(setups: Iterable[Setup]) -> tuple[str, ...]:
    """Collect the class paths that setups name: of networks, source networks, evaluated networks and data."""
    class_paths: set[str] = set()
    for setup in setups:
        for path, leaf in flatten_fields(setup).items():
            # A ``class_path`` below ``init_args`` is an argument of the user's class, not a class to be built.
            if path.endswith(".class_path") and ".init_args." not in path:
                class_paths.add(str(leaf))
    return tuple(sorted(class_paths))


def imported_modules(entry: str) -> set[str]:
    """Collect the first-party modules reachable from one by import statements anywhere in a file.

    Lazy imports inside functions count: they run as part of the training too.
    """
    closure = _import_closure({entry}, first_party_only=True)
    return {name for name in closure if name == entry or _is_first_party(name)}


@cache
def training_modules() -> frozenset[str]:
    """Return the modules that :func:`code_digest` covers; cached, as parsing them takes 0.1 seconds."""
    return frozenset(imported_modules(TRAINING_MODULE))


def platform_digest(
    device: str,
    num_threads: int,
    device_models: Iterable[str] = (),
    num_workers: int = 1,
    extra_distributions: Iterable[str] = (),
) -> str:
    """Digest what changes a result's bits on equal code: library versions, device models, threads and workers.

    Args:
        device: ``cpu`` or ``cuda``.
        device_models: CPU or GPU models of all machines that may train the trial; by default this machine's.
        num_workers: data-parallel workers of the trial.
        extra_distributions: further distributions whose versions count.
    """
    facts = [*_framework_versions(), device, " or ".join(device_models) or device_name(device), str(num_threads)]
    if num_workers > 1:  # left out for one worker: digests of earlier records stay valid
        facts.append(f"{num_workers} workers")
    elif device == "cuda":
        facts.append("captured steps")  # the kernels of a CUDA graph may be others than those of single launches
    for name in extra_distributions:
        facts.append(f"{name} {metadata.version(name)}")
    # 64 bits: enough to tell thousands of trials apart, and short enough for the name of a folder.
    return hashlib.sha256("|".join(facts).encode()).hexdigest()[:16]


@cache
def _framework_versions() -> tuple[str, str]:
    """Return the versions of torch and numpy; cached, as the look-up dominates the time of a platform digest."""
    return metadata.version("torch"), metadata.version("numpy")


def _import_closure(entries: Iterable[str], *, first_party_only: bool = False) -> set[str]:
    """Collect modules reachable by import statements; of an installed package its root alone.

    The standard library is left out: it takes no part in the numerical work.
    """
    closure: set[str] = set()
    waiting = list(entries)
    while waiting:
        name = waiting.pop()
        root = name.partition(".")[0]
        if name in closure or name in USER_FACADES or _is_standard_library(root):
            continue
        if _is_installed(root):
            closure.add(root)
            continue
        closure.add(name)
        for imported in _imported_names(name):
            if not first_party_only or _is_first_party(imported):
                waiting.append(imported)
    return closure


def _imported_names(name: str) -> list[str]:
    """List the full names that a module imports; for a user's module its parent packages too.

    Python runs the ``__init__`` files of a user's packages first, and they may change what the module does. Those of
    this package change nothing in the training.
    """
    spec = _find_module_spec(name)
    package = spec.parent or "" if spec else ""
    names: list[str] = []
    for node in ast.walk(_parse_training_code(name, spec)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += _names_imported_from(node, package)
    return names if _is_first_party(name) else [*names, *_parent_packages(name)]


def _names_imported_from(node: ast.ImportFrom, package: str) -> list[str]:
    """Resolve ``from module import names`` to modules: a name may be a submodule, or a member of the module."""
    module = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
    root = module.partition(".")[0]
    if _is_standard_library(root) or _is_installed(root):
        return [module]
    spec = _find_module_spec(module)
    if spec is None or spec.submodule_search_locations is None:
        return [module]  # no package, so that its names are members
    if node.names[0].name == "*":
        return [module, *_submodules_behind_star(module, spec)]
    members = [f"{module}.{alias.name}" for alias in node.names]
    submodules = [member for member in members if _find_module_spec(member)]
    # The package's ``__init__`` counts only where a name is defined in it.
    return submodules if len(submodules) == len(members) else [module, *submodules]


def _submodules_behind_star(package: str, spec: ModuleSpec) -> list[str]:
    """List the submodules that ``from package import *`` may import: those in a literal ``__all__``, or all."""
    submodules = [module.name for module in pkgutil.iter_modules(spec.submodule_search_locations)]
    exported = _literal_exports(_parse_training_code(package, spec))
    return [f"{package}.{name}" for name in submodules if exported is None or name in exported]


def _literal_exports(tree: ast.Module) -> Iterable[str] | None:
    """Return the names in a module's ``__all__``, where that is written once, as a list or tuple of texts."""
    num_uses = sum(isinstance(node, ast.Name) and node.id == "__all__" for node in ast.walk(tree))
    for statement in tree.body if num_uses == 1 else ():  # another use may add names
        if isinstance(statement, ast.Assign) and "__all__" in [ast.unparse(target) for target in statement.targets]:
            try:
                return list(ast.literal_eval(statement.value))
            except (ValueError, TypeError):
                return None
    return None


def _parent_packages(name: str) -> Iterator[str]:
    while name := name.rpartition(".")[0]:
        yield name


def _is_first_party(name: str) -> bool:
    return name.partition(".")[0] in FIRST_PARTY_PACKAGES


def _is_standard_library(root: str) -> bool:
    """Return whether a module is one of Python's own; a user's file of that name, which comes before it, is not."""
    if root not in sys.stdlib_module_names:
        return False
    spec = _find_module_spec(root)
    if spec is None or not spec.has_location:
        return True  # of another platform, built in, or frozen
    folders = [Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib")]
    is_there = any(Path(spec.origin or "").resolve().is_relative_to(folder) for folder in folders)
    return is_there and not _is_installed(root)


def _is_installed(root: str) -> bool:
    """Return whether a package is an installed distribution, and not a folder that its user works in."""
    spec = None if _is_first_party(root) else _find_module_spec(root)
    if spec is None:
        return False
    locations = [spec.origin or "", *(spec.submodule_search_locations or ())]
    return any(folder in Path(location).parts for location in locations for folder in INSTALLED_PACKAGE_FOLDERS)


def _find_module_spec(name: str) -> ModuleSpec | None:
    if name in sys.stdlib_module_names:
        # Not by what this process has imported: another one may have taken a user's file of that name.
        found = (finder.find_spec(name) for finder in (BuiltinImporter, FrozenImporter, PathFinder))
        return next(filter(None, found), None)
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError):  # its parent is no package; or the module is being run as a script
        return None


def _read_source(file: Path) -> str:
    """Read a module's source in its own encoding; empty where it has none, as an extension or a namespace package."""
    return importlib.util.decode_source(file.read_bytes()) if file.suffix == ".py" else ""


def _hash_modules(names: Iterable[str], *, declaring: Iterable[str] = ()) -> str:
    """Hash modules.

    Args:
        declaring: those in which an ablation may stand beside the networks.
    """
    contents = [_module_content(name, may_declare=name in declaring) for name in sorted(names)]
    return hashlib.sha256("".join(contents).encode()).hexdigest()[:16]


def _module_content(name: str, *, may_declare: bool) -> str:
    """Return the part of a module that counts: its normalized source, or its distribution's version."""
    spec = _find_module_spec(name)
    if _is_installed(name.partition(".")[0]):
        return f"{name} {_distribution_version(name)}\n"
    if spec is None:
        return f"{name}\nabsent\n"
    tree = _parse_training_code(name, spec)
    if may_declare:
        tree = _without_declarations(tree)
    return f"{name}\n{ast.dump(tree)}\n"  # which leaves comments and layout out


@cache
def package_distributions() -> Mapping[str, list[str]]:
    """Return the distributions of each importable package; cached, as the look-up takes 0.2 seconds."""
    return metadata.packages_distributions()


@cache
def _distribution_version(root: str) -> str:
    # A namespace package may come from several distributions.
    names = package_distributions().get(root, ())
    versions = {f"{name} {metadata.version(name)}" for name in names}
    return ", ".join(sorted(versions)) or "no version"


def _parse_training_code(name: str, spec: ModuleSpec | None) -> ast.Module:
    """Parse a module without its docstrings, and without the methods that only a notebook calls."""
    tree = _parse_file(Path(spec.origin or "")) if spec else ast.Module(body=[], type_ignores=[])
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and _has_docstring(node):
            node.body = node.body[1:]
        if isinstance(node, ast.ClassDef):
            is_ours = _is_first_party(name)
            node.body = [statement for statement in node.body if not _is_notebook_view(statement, is_ours=is_ours)]
    return tree


def _without_declarations(tree: ast.Module) -> ast.Module:
    """Leave out of ``ABLATION = Ablation(...)`` the fields besides its arms, such as the claims, and their imports.

    Only where they are written out with names of the contract: a function of the user's that is called there may
    change what the networks read. Arms count, for the same reason, and so does all of an ``ABLATION`` that the file
    mentions once more.
    """
    imports = [
        node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "ablations" and not node.level
    ]
    contract = {alias.name for node in imports for alias in node.names if _is_of_contract(alias)}
    num_mentions = sum(getattr(node, field, "") == "ABLATION" for node in ast.walk(tree) for field in NAMING_FIELDS)
    for statement in tree.body if num_mentions == 1 else ():
        if not (isinstance(statement, ast.Assign) and [*map(ast.unparse, statement.targets)] == ["ABLATION"]):
            continue
        call = statement.value
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in contract:
            call.keywords = [
                keyword
                for keyword in call.keywords
                if keyword.arg not in UNTRAINED_FIELDS or not _is_written_out(keyword.value, contract)
            ]
            for node in imports:
                node.names = [alias for alias in node.names if not _is_of_contract(alias)]
    return tree


def _is_of_contract(alias: ast.alias) -> bool:
    """Whether an import from ``ablations`` is of a name of the contract, and no submodule, which may hold networks."""
    return not alias.asname and alias.name in ablations.__all__


def _is_written_out(expression: ast.expr, own_names: Iterable[str]) -> bool:
    """Whether an expression consists of constants and names, and of calls of some names alone."""
    for node in ast.walk(expression):
        if isinstance(node, ast.Call):
            if not (isinstance(node.func, ast.Name) and node.func.id in own_names):
                return False
        elif not isinstance(node, WRITTEN_OUT_NODES):
            return False
    return True


def _parse_file(file: Path) -> ast.Module:
    """Parse a module's file.

    Raises:
        UserError: with file and line, for one that Python cannot read.
    """
    try:
        return ast.parse(_read_source(file), filename=str(file))
    except SyntaxError as error:
        place = f"{file}, line {error.lineno}" if error.lineno else str(file)
        raise UserError(f"{place}: {type(error).__name__}: {error.msg}.") from None
    except ValueError as error:  # bytes that are no text in the file's encoding, or null bytes
        raise UserError(f"{file} is no Python source: {error}. Correct the file, or state its encoding.") from None


def _is_notebook_view(statement: ast.stmt, *, is_ours: bool) -> bool:
    """Whether a statement defines a method by which a prompt or IPython shows an object or an error.

    These are ``_repr_html_`` and its like, and a ``__repr__`` that imports the module of views in its body. Another
    ``__repr__`` counts: the training of a user's own class may depend on it.
    """
    if not isinstance(statement, ast.FunctionDef):
        return False
    if statement.name == "__repr__":
        return any(isinstance(line, ast.ImportFrom) and line.module == VIEWS_MODULE for line in statement.body)
    if is_ours:
        return statement.name.startswith("_repr_") or statement.name == "_render_traceback_"
    return statement.name in IPYTHON_VIEWS


def _has_docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    first = node.body[0] if node.body else None
    return isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
