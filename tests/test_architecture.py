"""The laws of the repository: which package may import which, where each engine stands, and what a listing may load."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from studies.records.digests import training_modules

ROOT = Path(__file__).parent.parent
LAYERS = ("lightning_modules", "ablations", "studies", "reports")
LARGEST_FOLDER = 12  # modules; ablation files excepted
LONGEST_MODULE = 400  # lines

SPECS = {"lightning_modules.specs"}
NETWORKS = SPECS | {"lightning_modules.rng", "lightning_modules.user_code"}
SHARED = {"lightning_modules.file_lock", "lightning_modules.stored_files"}
DATA = NETWORKS | SHARED | {"lightning_modules.networks", "lightning_modules.distributed"}
DATA |= {"lightning_modules.device_transfer"}
EVALUATION = DATA | {"lightning_modules.data", "lightning_modules.modules"}
PROFILING = EVALUATION | {"lightning_modules.evaluation"}
SETTINGS = {"studies.settings", "studies.scratch", "studies.gc_pause", "studies.hardware"}
DESIGN = SETTINGS | {"studies.protocols"}
RECORDS = DESIGN | {"studies.design", "studies.latency"}
STORAGE = RECORDS | {"studies.records"}
TRAINING = STORAGE | {"studies.storage"}
STATISTICS = {"reports.formatting"}
ANALYSIS = STATISTICS | {"reports.statistics"}
COMPARISON = ANALYSIS | {"reports.analysis"}
FIGURES = COMPARISON | {"reports.comparison", "reports.external", "reports.calibration"}
CONTENT = FIGURES | {"reports.figures", "reports.document"}
RENDERERS = CONTENT | {"reports.content"}

# What a package may import of its own layer, beside itself; of the layers below a package may import everything, but
# for those of ``BELOW``.
ALLOWED: dict[str, set[str]] = {
    "lightning_modules.rng": set(),
    "lightning_modules.distributed": {"lightning_modules.networks"},
    "lightning_modules.device_transfer": set(),
    "lightning_modules.file_lock": set(),
    "lightning_modules.specs": set(),
    "lightning_modules.stored_files": SPECS,
    "lightning_modules.user_code": SPECS,
    "lightning_modules.networks": NETWORKS,
    "lightning_modules.data": DATA,
    "lightning_modules.modules": DATA,
    "lightning_modules.evaluation": EVALUATION,
    "lightning_modules.profiling": PROFILING,
    "lightning_modules.spec": SPECS,  # what users import
    "lightning_modules.catalogue": SPECS,
    "studies.settings": set(),
    "studies.hardware": set(),
    "studies.scratch": set(),
    "studies.gc_pause": set(),
    "studies.protocols": set(),
    "studies.latency": SETTINGS,
    "studies.design": DESIGN,
    "studies.records": RECORDS,
    "studies.storage": STORAGE,
    "studies.training": TRAINING,
    "studies.tracking": TRAINING,
    "studies.execution": TRAINING | {"studies.training"},
    "studies.inspection": TRAINING | {"studies.training"},
    "studies.console": TRAINING | {"studies.inspection"},
    "studies.runner": TRAINING | {"studies.training", "studies.tracking", "studies.execution", "studies.console"},
    "studies.maintenance": TRAINING | {"studies.training", "studies.tracking", "studies.execution", "studies.runner"},
    "studies": {"studies.design", "studies.execution", "studies.protocols", "studies.runner"},  # what users import
    "reports.formatting": set(),
    "reports.document": {"reports.formatting"},
    "reports.statistics": STATISTICS,
    "reports.analysis": ANALYSIS,
    "reports.comparison": COMPARISON,
    "reports.external": ANALYSIS,
    "reports.calibration": COMPARISON,
    "reports.figures": FIGURES,
    "reports.content": CONTENT,
    "reports.renderers": RENDERERS,
    "reports.pages": RENDERERS | {"reports.renderers"},
    "reports": {"reports.comparison", "reports.external", "reports.pages"},  # what users import
}
BELOW: dict[str, set[str]] = {
    "ablations": {"lightning_modules.specs", "lightning_modules.catalogue", "lightning_modules.spec"},
    "reports.statistics": {"ablations", "lightning_modules.specs.text"},
}
COMPOSITION_ROOT = "studies.cli"
ENGINES = {
    "ray": "studies.execution",
    "mlflow": "studies.tracking",
    "optuna": "studies.runner.optuna_search",
    "pyarrow": "studies.storage.object_store",
    "matplotlib": "reports.figures",
    "click": ("studies.cli", "studies.console"),
    "rich": ("studies.console", "studies.cli"),
    "torch": ("lightning_modules", "studies"),
    "pytorch_lightning": ("lightning_modules", "studies"),
}
HEAVY = ("torch", "pytorch_lightning", "ray", "mlflow", "optuna", "pandas", "matplotlib", "scipy")
ENTRY_POINTS = {
    "ablations.load", "ablations.names", "studies.declare", "studies.run", "studies.show", "studies.protocols.load",
    "studies.protocols.names", "reports.judge", "reports.load", "reports.plan",
    "reports.unresolved",
}  # fmt: skip


def module_of(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_of(file): file for layer in LAYERS for file in sorted((ROOT / layer).rglob("*.py"))}
TREES = {name: ast.parse(file.read_text(encoding="utf-8")) for name, file in FILES.items()}


def imported_names(module: str) -> set[str]:
    """All that a module imports, annotations and lazy imports included; of ours by module, of others by root."""
    found: set[str] = set()
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert not node.level, f"{module} has a relative import"
            members = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {member if member in FILES else node.module for member in members}
    return found


IMPORTS = {module: imported_names(module) for module in FILES}


def layer_of(module: str) -> str:
    return module.partition(".")[0]


def package_of(module: str) -> str:
    """The row of ``ALLOWED`` that a module belongs to."""
    if layer_of(module) == "ablations":
        return "ablations"
    return ".".join(module.split(".")[:2])


def is_within(module: str, homes: str | tuple[str, ...]) -> bool:
    homes = (homes,) if isinstance(homes, str) else homes
    return any(module == home or module.startswith(f"{home}.") for home in homes)


def ours(module: str) -> set[str]:
    return {name for name in IMPORTS[module] if layer_of(name) in LAYERS}


def forbidden_imports(module: str, targets: set[str]) -> set[str]:
    """Those of a module's imports that its package may not have."""
    package, layer = package_of(module), layer_of(module)
    above = LAYERS[LAYERS.index(layer) + 1 :]
    may_import = ALLOWED.get(package, set()) | {package}
    forbidden = set()
    for name in targets:
        if layer_of(name) == layer:
            is_allowed = package_of(name) in may_import
        else:
            is_allowed = layer_of(name) not in above and (
                package not in BELOW or is_within(name, tuple(BELOW[package]))
            )
        if not is_allowed:
            forbidden.add(name)
    return forbidden


def test_a_module_imports_only_what_its_package_may():
    wrong: dict[str, set[str]] = {}
    for module in FILES:
        if not is_within(module, COMPOSITION_ROOT) and (forbidden := forbidden_imports(module, ours(module))):
            wrong[module] = forbidden
    assert wrong == {}


@pytest.mark.parametrize(
    ("module", "target"),
    [
        ("ablations._arms", "studies.settings"),  # of a layer above
        ("ablations._arms", "lightning_modules.networks.build"),  # of the layer below, but for specs
        ("studies.records.register", "studies.tracking.writer"),  # of its own layer, and not in its row
        ("reports.statistics.power", "studies.settings"),
        ("lightning_modules.rng", "lightning_modules.specs.setup"),
    ],
)
def test_a_forbidden_import_is_found(module, target):
    allowed = ours(module)
    assert forbidden_imports(module, allowed | {target}) == {target}


def test_nothing_imports_the_composition_root():
    importers = {module for module in FILES if any(is_within(name, COMPOSITION_ROOT) for name in IMPORTS[module])}
    assert all(is_within(module, COMPOSITION_ROOT) for module in importers)


def test_no_module_imports_the_facade_of_its_own_package():
    wrong = []
    for module, file in FILES.items():
        parent = module if file.name == "__init__.py" else module.rpartition(".")[0]
        is_ablation = layer_of(module) == "ablations" and not file.name.startswith("_")
        ancestors = {parent.rsplit(".", depth)[0] for depth in range(parent.count(".") + 1)} - {module}
        if not is_ablation and IMPORTS[module] & ancestors:
            wrong.append(module)
    assert not wrong


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The strongly connected components of two nodes or more (Tarjan 1972)."""
    index: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = lowest[node] = len(index)
        stack.append(node)
        for target in graph.get(node, ()):
            if target not in index:
                visit(target)
                lowest[node] = min(lowest[node], lowest[target])
            elif target in stack:
                lowest[node] = min(lowest[node], index[target])
        if lowest[node] == index[node]:
            component = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(component) > 1:
                found.append(sorted(component))

    for node in graph:
        if node not in index:
            visit(node)
    return found


def test_modules_import_each_other_in_no_cycle():
    graph = {module: ours(module) - {module} for module in FILES}
    assert cycles(graph) == []


def folder_of(module: str) -> str:
    """The folder that holds a module; a package, and a module beside a layer's facade, stand for themselves."""
    parent = module.rpartition(".")[0]
    return module if FILES[module].name == "__init__.py" or parent == layer_of(module) else parent


def test_packages_import_each_other_in_no_cycle():
    graph: dict[str, set[str]] = defaultdict(set)
    for module in FILES:
        if layer_of(module) != "ablations":
            graph[folder_of(module)] |= {folder_of(name) for name in ours(module)} - {folder_of(module)}
    assert cycles(graph) == []


def test_the_cycle_finder_finds_cycles():
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


def test_specs_need_the_standard_library_alone():
    outside = {
        name
        for module in FILES
        if is_within(module, "lightning_modules.specs")
        for name in IMPORTS[module]
        if name.partition(".")[0] not in sys.stdlib_module_names and not is_within(name, "lightning_modules.specs")
    }
    assert not outside


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_stands_in_its_home_alone(engine):
    users = {module for module in FILES if any(is_within(name, engine) for name in IMPORTS[module])}
    assert users, f"nothing imports {engine}"
    assert all(is_within(module, ENGINES[engine]) for module in users)


def test_folders_are_small_enough_to_be_read_at_once():
    modules: dict[Path, int] = defaultdict(int)
    for file in FILES.values():
        modules[file.parent] += file.name != "__init__.py"
    del modules[ROOT / "ablations"]
    assert {str(folder): count for folder, count in modules.items() if count > LARGEST_FOLDER} == {}


def test_modules_are_short_enough_to_be_read_at_once():
    lengths = {module: file.read_text(encoding="utf-8").count("\n") for module, file in FILES.items()}
    assert {module: length for module, length in lengths.items() if length > LONGEST_MODULE} == {}


def test_no_class_is_defined_twice():
    homes: dict[str, list[str]] = defaultdict(list)
    for module, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                homes[node.name].append(module)
    assert {name: where for name, where in homes.items() if len(where) > 1} == {}


def test_a_public_function_is_named_in_two_words_or_more():
    one_word = set()
    for module, tree in TREES.items():
        functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
        one_word |= {f"{module}.{node.name}" for node in functions if "_" not in node.name and not node.decorator_list}
    public = {name.rpartition(".")[2] for name in ENTRY_POINTS}
    assert {name for name in one_word if name.rpartition(".")[2] not in public} == set()


def test_every_package_says_what_it_is_for():
    packages = {module: TREES[module] for module, file in FILES.items() if file.name == "__init__.py"}
    undocumented = {module for module, tree in packages.items() if len(ast.get_docstring(tree) or "") < 40}
    assert undocumented == set()


def test_the_code_digest_covers_what_trains_and_nothing_else():
    """Else a network, an ablation or a rule of the receptive field that is added would make every trial outdated."""
    outside = ("lightning_modules.specs.catalogue", "lightning_modules.catalogue", "lightning_modules.profiling")
    covered = training_modules()
    assert "lightning_modules.networks.vgg" in covered
    assert "lightning_modules.modules.classifier" in covered
    assert not {name for name in covered if is_within(name, (*outside, "ablations", "studies.tracking", "reports"))}


def loaded_after(statement: str, parts: int = 1) -> set[str]:
    """Modules that are loaded then, by so many parts of their names."""
    code = f"{statement}\nimport sys; print(' '.join({{'.'.join(name.split('.')[:{parts}]) for name in sys.modules}}))"
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(shown.stdout.split())


def test_importing_every_ablation_and_protocol_loads_no_framework():
    loaded = loaded_after(
        "import ablations, studies.protocols as p; [ablations.load(n) for n in ablations.names()]; "
        "[p.load(n) for n in p.names()]"
    )
    assert not loaded & set(HEAVY)


def test_the_command_line_loads_no_framework_to_answer_help():
    assert not loaded_after("import studies.cli.app") & set(HEAVY)


def test_training_needs_neither_ray_nor_mlflow_nor_optuna():
    assert not loaded_after("import studies.training.train") & {"ray", "mlflow", "optuna", "pydantic", "pyarrow"}


def test_planning_loads_neither_what_trains_nor_a_compiler():
    loaded = loaded_after(
        "from studies.design.verification import build_verified_networks; from studies.design.declare import declare; "
        "import studies.runner.driver; build_verified_networks(declare('depth').setups())",
        parts=2,
    )
    assert "torch.nn" in loaded
    assert not loaded & {"pytorch_lightning", "torchvision", "torchmetrics", "matplotlib", "torch._dynamo", "ray.tune"}
