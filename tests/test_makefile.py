"""The Makefile refuses variables that it does not know, and leaves make's own and the environment's alone."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


def make(*arguments, **environment):
    line = ["make", "--dry-run", "--old-file=.venv/.ready", "study-depth", *arguments]
    return subprocess.run(
        line, cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )


@pytest.mark.parametrize(
    ("given", "suggestion"),
    [
        ("SEED=2", "Did you mean SEEDS='2,'?"),
        ("EPOCHS=3", "Did you mean SET=recipe.epochs=3?"),
        ("LR=0.1", "Did you mean SET=recipe.learning_rate=0.1?"),
        ("GPU=1", "Did you mean GPUS_PER_TRIAL=1?"),
        ("DATAROOT=/data", "Did you mean DATA_ROOT=/data?"),
        ("seeds=3", "Did you mean SEEDS=3?"),
        ("NONSENSE=1", "There are: PROTOCOL SEEDS"),
    ],
)
def test_an_unknown_variable_is_refused_with_a_suggestion(given, suggestion):
    ended = make(given)
    assert ended.returncode == 2
    assert f"{given.partition('=')[0]} is no variable of this Makefile." in ended.stderr
    assert suggestion in ended.stderr
    assert "ablate" not in ended.stdout


@pytest.mark.parametrize("given", ["SEEDS=2", "PYTHON=python3", "SHELL=/bin/sh", "MAKEFLAGS=k"])
def test_known_variables_and_those_of_make_are_taken(given):
    ended = make(given)
    assert ended.returncode == 0, ended.stderr
    assert "ablate run depth" in ended.stdout


def test_the_environment_may_hold_any_variable():
    ended = make(SEED="2", EPOCHS="3")
    assert ended.returncode == 0, ended.stderr
    assert "--seeds" not in ended.stdout


def test_every_variable_that_the_help_names_is_known():
    text = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    named = {word.partition("=")[0] for line in text.splitlines() for word in line.split() if "=" in word}
    for name in sorted(name for name in named if name.isupper()):
        assert make(f"{name}=1").returncode == 0, name


def run_studies(folder, *arguments):
    """Run make on studies with a stand-in for `ablate` that prints and fails as its study's name says."""
    program = folder / "bin" / "ablate"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "trained $2"\necho "warned $2" >&2\n[ "$2" != lrn ]\n')
    program.chmod(0o755)
    line = ["make", f"VENV={folder}", f"--old-file={folder}/.ready", *arguments]
    # Under `make test`, the environment tells of an outer make, and this one would print the folders that it enters.
    environment = {
        name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    }
    return subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_lines_of_studies_that_run_at_once_begin_with_their_name_and_a_failure_stays_one(tmp_path):
    ended = run_studies(tmp_path, "-j2", "--keep-going", "study-depth", "study-lrn")
    assert sorted(ended.stdout.splitlines()) == [
        "depth: trained depth",
        "depth: warned depth",
        "lrn: trained lrn",
        "lrn: warned lrn",
    ]
    assert ended.returncode == 2
    assert "study-lrn] Error 1" in ended.stderr
    assert "study-depth]" not in ended.stderr


def test_lines_of_a_single_study_are_as_they_are(tmp_path):
    ended = run_studies(tmp_path, "-j2", "study-depth")
    assert (ended.stdout, ended.stderr, ended.returncode) == ("trained depth\n", "warned depth\n", 0)


def install(folder, uv_code=0, has_uv=True):
    """Run `make setup` with stand-ins for Python and uv, and return what was called with which arguments."""
    log = folder / "log"
    for name, code in (("bin/python", 0), ("uv", uv_code)):
        program = folder / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/sh\necho "{program.name} $*" >> {log}\nexit {code}\n')
        program.chmod(0o755)
    uv = folder / "uv" if has_uv else ""
    line = ["make", "setup", f"VENV={folder}", f"UV={uv}", "PYTHON=no-such-python"]
    environment = {
        name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    }
    ended = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return log.read_text().splitlines(), ended.stdout


LOCKED = "--constraint constraints.txt --editable .[dev]"


def test_uv_installs_what_the_lock_says_where_it_is_there(tmp_path):
    called, _ = install(tmp_path)
    assert called == [f"uv pip install --quiet --python {tmp_path}/bin/python {LOCKED}"]


@pytest.mark.parametrize("has_uv", [True, False])
def test_pip_installs_where_uv_is_not_there_or_fails(tmp_path, has_uv):
    called, shown = install(tmp_path, uv_code=1, has_uv=has_uv)
    assert called[-1] == f"python -m pip install --quiet --disable-pip-version-check {LOCKED}"
    assert len(called) == 1 + has_uv
    assert ("uv failed; trying pip" in shown) == has_uv
