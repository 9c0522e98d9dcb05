"""Claim: a study's first training step comes within 12 seconds of its command, and every further trial starts in 0.1.

Cost: two minutes on two cores. Command: ``python benchmarks/start.py [--quick] [--write]``.

First come the commands that respond at once, beside the bare interpreter: `ablate --help`, `ablate list`, `ablate
status` of 1,000 trials. Then a whole `ablate run` of twelve trials on one worker, whose network records the time of
its first step. ``first step``: seconds from the command. ``further trial``: seconds from one trial's result to the
next one's first step, for a process, the data, the network and Lightning's trainer.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from _side_by_side import asked, in_turn, keep, ratio, timed, told, where

from studies.records.results import failed_result
from studies.settings import Settings
from studies.storage import status_files, study_status
from studies.storage.trial_folder import TrialFolder

TRIALS = 1000
ABLATE = str(Path(sys.executable).with_name("ablate"))
ARMS, SEEDS = 2, 6
GOALS = {"first step": "12 s or less", "further trial": "0.1 s or less"}
NETWORK = '''
import time
from pathlib import Path

import pytorch_lightning as lightning
import torch
from torch import nn


class Starter(lightning.LightningModule):
    """A linear classifier of 64 pixels that notes when its first step is made."""

    def __init__(self, classes: int, folder: str, arm: int) -> None:
        super().__init__()
        self.folder = folder
        self.classifier = nn.Linear(64, classes)

    def forward(self, images):
        return self.classifier(nn.functional.adaptive_avg_pool2d(images, 8).flatten(1))

    def training_step(self, batch, number):
        is_trial = "trials" in Path(self.trainer.default_root_dir).parts  # and no proof of the first step
        if number == 0 and is_trial:
            (Path(self.folder) / f"step-{time.time()}").touch()
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.02)
'''
ABLATION = '''
"""When does it start?"""

from ablations import Ablation, Arm
from lightning_modules.spec import Custom


def starter(arm):
    arguments = {{"classes": "$classes", "folder": "{folder}", "arm": arm}}
    return Arm(str(arm), {{"network": Custom(class_path="starting_networks.Starter", init_args=arguments)}})


ABLATION = Ablation(question=__doc__, baseline=starter(0), arms=(starter(1),), varies=("network.init_args.arm",))
'''


def make_study(settings: Settings) -> None:
    """A study of which half of the trials have ended, as far as its status is concerned."""
    rows = [
        study_status.TrialStatus(arm="ABCDEFGHIJ"[number % 10], seed=number // 10, epochs=50, folder=f"{number:04d}")
        for number in range(TRIALS)
    ]
    study_status.update_status(
        settings.studies_folder / "many-0", "many", "digits", [(row, "train") for row in rows], settings.trials_folder
    )
    for row in rows[: TRIALS // 2]:
        TrialFolder(settings.trials_folder / row.folder).write_result(failed_result(row.folder, {}, "made up"))
        status_files.write_progress(settings.trials_folder / row.folder, {"epoch": 50, "node": "here", "attempts": 1})


def commands(repeats: int) -> dict[str, list[float]]:
    """Seconds of every command that answers at once, in turn."""
    with tempfile.TemporaryDirectory() as runs:
        make_study(Settings.from_environment(runs))
        lines = {
            "bare interpreter": [sys.executable, "-c", "pass"],
            "ablate --help": [ABLATE, "--help"],
            "ablate list": [ABLATE, "list"],
            f"ablate status, {TRIALS} trials": [ABLATE, "status", "many", "--runs", runs],
        }

        def run(line: list[str]) -> float:
            return timed(lambda: subprocess.run(line, check=True, capture_output=True))

        return in_turn({name: partial(run, line) for name, line in lines.items()}, repeats)


def study() -> tuple[float, list[float]]:
    """Of one `ablate run`: seconds to the first step, and from each trial's result to the next one's first step."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "starting_networks.py").write_text(NETWORK)
        (folder / "starters.py").write_text(ABLATION.format(folder=folder))
        line = [ABLATE, "run", str(folder / "starters.py"), "--seeds", str(SEEDS), "--set", "recipe.epochs=1"]
        began = time.time()
        subprocess.run(
            [*line, "--max-concurrent", "1", "--runs", str(folder / "runs")], check=True, capture_output=True
        )
        steps = sorted(float(file.name.partition("-")[2]) for file in folder.glob("step-*"))
        ends = sorted(file.stat().st_mtime for file in folder.glob("runs/trials/*/result.json"))
        assert len(steps) == len(ends) == ARMS * SEEDS
        return steps[0] - began, [step - end for end, step in zip(ends, steps[1:], strict=False)]


def starts(repeats: int) -> dict[str, list[float]]:
    """Both figures, run by run."""
    found: dict[str, list[float]] = {"first step": [], "further trial": []}
    for _ in range(repeats):
        first, further = study()
        found["first step"].append(first)
        found["further trial"].append(statistics.median(further))
    return found


def main() -> None:
    """Measure, print, and write where asked."""
    options: argparse.Namespace = asked(__doc__)
    answers = commands(2 * options.repeats)
    bare = answers.pop("bare interpreter")
    ratios = {name: ratio(seconds, bare) for name, seconds in answers.items()}
    for name, values in ratios.items():
        print(told(f"{name} / bare interpreter", values), f" {statistics.median(answers[name]):.2f} s", flush=True)
    seconds = starts(options.repeats)
    for name, each in seconds.items():
        print(f"{name:<20} {statistics.median(each):7.2f} s  [{min(each):.2f}, {max(each):.2f}]  goal {GOALS[name]}")
    kept = {"where": where(), "commands": {"bare interpreter": bare, **answers}, "ratios": ratios, "starts": seconds}
    keep("start", kept, options)


if __name__ == "__main__":
    main()
