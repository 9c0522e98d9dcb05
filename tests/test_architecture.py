"""The laws of the repository: who may import whom, and what a mere listing may not load."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = ("lightning_modules", "ablations", "studies", "reports")
COMPOSITION_ROOT = Path("studies/cli.py")
ENGINES = {
    "ray": ["studies/cluster.py", "studies/dispatch.py", "studies/together.py"],
    "mlflow": ["studies/tracking.py"],
    "optuna": ["studies/search.py"],
    "pyarrow": ["studies/bucket.py"],
}
HEAVY = ("torch", "pytorch_lightning", "ray", "mlflow", "optuna", "pandas", "matplotlib", "scipy")
SOURCES = sorted(file.relative_to(ROOT) for layer in LAYERS for file in (ROOT / layer).rglob("*.py"))


def imports(file: Path) -> set[str]:
    """Roots of all modules that a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("file", SOURCES, ids=str)
def test_a_folder_imports_only_from_those_below_it(file):
    if file == COMPOSITION_ROOT:
        return
    above = set(LAYERS[LAYERS.index(file.parts[0]) + 1 :])
    assert not imports(file) & above


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_stands_in_its_files_alone(engine):
    assert [str(file) for file in SOURCES if engine in imports(file)] == ENGINES[engine]


@pytest.mark.parametrize("file", [file for file in SOURCES if file.parts[0] == "reports"], ids=str)
def test_reports_know_neither_torch_nor_ray(file):
    assert not imports(file) & {"torch", "pytorch_lightning", "ray"}


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
    assert not loaded_after("import studies.cli") & set(HEAVY)


def test_training_needs_neither_ray_nor_mlflow_nor_optuna():
    assert not loaded_after("import studies.training") & {"ray", "mlflow", "optuna", "pydantic", "pyarrow"}


def test_planning_loads_neither_what_trains_nor_a_compiler():
    plan = "from studies.building import build_all; from studies.declaring import declare; import studies.running"
    loaded = loaded_after(f"{plan}; build_all(declare('depth').setups())", parts=2)
    assert "torch.nn" in loaded
    assert not loaded & {"pytorch_lightning", "torchvision", "torchmetrics", "matplotlib", "torch._dynamo", "ray.tune"}
