"""The papers' studies are run in pieces: archives carry what one call left to the next, on another machine too."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def make_evidence(*arguments: object) -> str:
    """Run the command in a process of its own; returns what it printed."""
    line = [sys.executable, "-W", "ignore", str(ROOT / "docs" / "evidence.py"), *map(str, arguments)]
    process = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_a_second_machine_goes_on_from_the_archives(tmp_path):
    study = ("--protocol", "digits", "--study", "lrn", "--set", "recipe.epochs=1", "--gpus-per-trial", "0")
    archives, pages = tmp_path / "archives", tmp_path / "pages"
    places = ("--archives", archives, "--pages", pages)
    first = make_evidence(*study, "--seeds", 1, "--runs", tmp_path / "first", *places)
    assert "2 of 2 trials to train" in first
    assert (archives / "lrn-digits.zip").exists()
    assert "of 2 trials" in (pages / "README.md").read_text(encoding="utf-8")
    second = make_evidence(*study, "--seeds", 2, "--runs", tmp_path / "second", *places)
    assert "2 of 4 trials to train" in second
    assert "of 4 trials" in (pages / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_seeds_are_those_of_the_plan_and_a_spent_time_starts_nothing(tmp_path):
    places = ("--runs", tmp_path / "runs", "--pages", tmp_path / "pages")
    printed = make_evidence("--protocol", "cifar10", "--study", "depth", "--max-time", "0.001s", *places)
    # In docs/results/expected.md, 13 seeds find a step of 0.3 points at an SD of 0.2 per arm.
    assert "seeds: depth 13" in printed
    assert "The time is spent: depth and what follows it wait for the next call." in printed
    assert not (tmp_path / "runs" / "trials").exists()
