"""The benchmarks of a GPU run on a machine that has torch and Lightning and neither Ray nor MLflow nor Optuna."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ABSENT = ("ray", "mlflow", "optuna", "pydantic", "pyarrow", "pandas")
ALONE = """
import runpy, sys
sys.path[:0] = [{root!r}, {folder!r}]
sys.modules.update(dict.fromkeys({absent!r}))
sys.argv = [{file!r}, "--smallest"]
runpy.run_path({file!r}, run_name="__main__")
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("overhead", "whole stack / bare loop"),
        ("loader", "ours / DataLoader"),
        ("step", "channels-last"),
        ("jpeg", "originals / ordinary"),
        ("gpu", "loading processes"),
        ("gpu_study", "times as fast"),
    ],
)
def test_a_benchmark_of_a_gpu_needs_neither_engine(name, says, tmp_path):
    file = ROOT / "benchmarks" / f"{name}.py"
    code = ALONE.format(root=str(ROOT), folder=str(file.parent), absent=ABSENT, file=str(file))
    line = [sys.executable, "-W", "ignore", "-c", code]
    shown = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr
    assert says in shown.stdout
