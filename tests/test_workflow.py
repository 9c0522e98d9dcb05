"""The workflow of the project's own tests and the hooks before a commit call what there is."""

import re
import tomllib
from pathlib import Path

import yaml
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parent.parent
WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text(encoding="utf-8"))
HOOKS = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M))


def commands_of(job):
    return [step["run"] for step in job["steps"] if "run" in step]


def test_the_workflow_runs_what_ci_runs():
    commands = {command for job in WORKFLOW["jobs"].values() for command in commands_of(job)}
    ci = set(re.findall(r"^make .*$", (ROOT / ".ci/run").read_text(encoding="utf-8"), flags=re.M))
    assert commands == ci
    assert {command.split()[1] for command in commands} <= TARGETS


def test_the_workflow_tests_every_supported_python():
    supported = SpecifierSet(PROJECT["requires-python"])
    wanted = [f"3.{minor}" for minor in range(8, 20) if supported.contains(f"3.{minor}.5")]
    assert WORKFLOW["jobs"]["test"]["strategy"]["matrix"]["python"] == wanted
    named = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", line)]
    assert named == wanted


def test_the_hooks_call_programs_of_the_lock():
    hooks = [hook for repository in HOOKS["repos"] for hook in repository["hooks"]]
    assert {repository["repo"] for repository in HOOKS["repos"]} == {"local"}
    assert all(hook["entry"].startswith(".venv/bin/") for hook in hooks)
    lint = " ".join(PROJECT["optional-dependencies"]["lint"])
    programs = {hook["entry"].split()[0].rpartition("/")[2] for hook in hooks} - {"python"}
    assert programs == {"ruff", "mypy"}
    assert all(program in lint for program in programs)


def test_the_development_extra_is_all_others_but_that_of_a_server():
    extras = PROJECT["optional-dependencies"]
    assert extras["dev"] == ["ablation-studies[docs,lint,test]"]
    assert set(extras) == {"postgres", "docs", "lint", "test", "dev"}
