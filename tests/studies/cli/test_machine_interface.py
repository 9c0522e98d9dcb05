"""What scripts and agents rely on: JSON by its schema, AGENTS.md, the example workflow, runs in the background."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml
from click.testing import CliRunner

from studies.cli.app import main

ROOT = Path(__file__).parents[3]
COMMANDS = json.loads((ROOT / "docs/commands.schema.json").read_text(encoding="utf-8"))["$defs"]
VERDICTS = json.loads((ROOT / "docs/verdict.schema.json").read_text(encoding="utf-8"))
GUIDE = (ROOT / "AGENTS.md").read_text(encoding="utf-8")
WORKFLOW = yaml.safe_load((ROOT / "examples/github_actions.yml").read_text(encoding="utf-8"))
STEPS = {step["name"]: step["run"] for step in WORKFLOW["jobs"]["gate"]["steps"] if "run" in step}
ACCURACY = {"main": (90.1, 89.8, 90.4, 90.0), "change": (91.6, 91.2, 91.9, 91.45)}


def guide_blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, flags=re.DOTALL)


def write_results(file, arms):
    lines = ["arm,seed,accuracy"]
    for arm, values in arms.items():
        lines += [f"{arm},{seed},{value}" for seed, value in enumerate(values)]
    file.write_text("\n".join(lines), encoding="utf-8")


def test_every_command_that_prints_takes_json():
    options = {name: [item.opts for item in command.params] for name, command in main.commands.items()}
    without = {name for name, found in options.items() if ["--json"] not in found}
    assert without == {"ui"}


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (("list",), "list"),
        (("run", "lrn", "--dry-run"), "run --dry-run"),
        (("plan", "lrn", "--spread", "0.5"), "plan"),
        (("plan", "lrn", "--spread", "0.5", "--max-time", "10m"), "plan"),
        (("doctor",), "doctor"),
        (("gc",), "gc"),
        (("completion", "zsh"), "completion"),
    ],
)
def test_what_a_command_prints_follows_its_schema(tmp_path, command, name):
    runs = () if name in ("list", "completion") else ("--runs", str(tmp_path))
    shown = CliRunner().invoke(main, [*command, *runs, "--json"])
    assert shown.exit_code == 0, shown.output
    jsonschema.validate(json.loads(shown.stdout), COMMANDS[name])


def test_the_guide_names_commands_and_options_that_exist():
    lines = [line for block in guide_blocks("sh") for line in block.strip().splitlines()]
    assert len(lines) >= 8
    for line in lines:
        command = main.commands[line.split()[1]]
        known = {option for item in command.params for option in (*item.opts, *item.secondary_opts)}
        assert {word for word in line.split() if word.startswith("--")} <= known, line


def test_the_guides_ablation_is_valid_and_its_dry_run_lists_its_trials(tmp_path):
    (code,) = guide_blocks("python")
    file = tmp_path / "my_momentum.py"
    file.write_text(code, encoding="utf-8")
    shown = CliRunner().invoke(main, ["run", str(file), "--seeds", "5", "--dry-run", "--json"])
    assert len(json.loads(shown.stdout)["trials"]) == 10


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arms", "code", "told"),
    [
        (ACCURACY, 0, "::notice::The change is better than main."),
        ({"main": ACCURACY["change"], "change": ACCURACY["main"]}, 10, "::error::Not shown to be better"),
        ({"main": (90.0, 91.0, 92.0), "change": (91.0, 90.5, 92.5)}, 20, "::error::Cannot tell yet"),
    ],
)
def test_the_example_workflow_gates_a_change(tmp_path, arms, code, told):
    write_results(tmp_path / "results.csv", arms)
    tool = tmp_path / "bin" / "ablate"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\nexec {sys.executable} -m studies.cli "$@"\n', encoding="utf-8")
    tool.chmod(0o755)
    environment = {
        **os.environ,
        **WORKFLOW["env"],
        "PATH": f"{tool.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
    }

    def run_step(name):
        shell = ["bash", "-e", "-c", STEPS[name]]  # as GitHub runs it
        return subprocess.run(shell, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    judged = run_step("Judge")
    assert judged.returncode == 0, judged.stderr
    assert "Verdicts" in (tmp_path / "summary.md").read_text(encoding="utf-8")
    gated = run_step("Gate")
    assert (gated.returncode, told in gated.stdout) == (code, True), gated.stdout + gated.stderr


@pytest.mark.slow
def test_a_detached_run_goes_on_and_is_followed_as_json(tmp_path):
    def ablate(*arguments):
        command = [sys.executable, "-m", "studies.cli", *arguments, "--runs", str(tmp_path / "runs"), "--json"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert ended.returncode in (0, 20), ended.stderr
        shown = json.loads(ended.stdout)
        jsonschema.validate(shown, VERDICTS)
        return shown

    options = ("--seeds", "2", "--set", "recipe.epochs=1")
    start = ablate("run", "lrn", *options, "--detach")
    assert start["kind"] == "start"
    assert Path(start["log"]).exists()
    status = ablate("status", "lrn", "--watch")
    assert (status["state"], status["ended"], status["trials"]) == ("ended", 4, 4)
    (report,) = ablate("report", "lrn")["reports"]
    assert report["registration"]["state"] == "intact"
    assert report["registration"]["entries"][0]["results"] == 0


@pytest.mark.parametrize("command", [("check",), ("show",), ("run", "--dry-run")])
def test_what_a_users_module_prints_is_not_in_the_json(tmp_path, command):
    module = f"loud_{command[0]}"  # its name is taken once it is imported
    assert CliRunner().invoke(main, ["new", module, "--module", "--into", str(tmp_path)]).exit_code == 0
    file = tmp_path / f"{module}.py"
    file.write_text(file.read_text(encoding="utf-8") + '\nprint("as it is imported")\n', encoding="utf-8")
    name, *options = command
    shown = CliRunner().invoke(main, [name, str(file), *options, "--json"])
    assert shown.exit_code == 0, shown.output
    assert isinstance(json.loads(shown.stdout), dict)
    assert "as it is imported" in shown.stderr
