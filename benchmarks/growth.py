"""Claim: time and memory grow no faster than a study's trials, epochs and arms, and the pixels of its data.

Cost: three minutes on two cores. Command: ``python benchmarks/growth.py [--quick] [--write]``.

Each size is measured in a process of its own, the sizes in turn. Four things grow: the trials of a study that is
planned, up to the list of trials to train; the arms of a study that is planned, all of which are built and compared
with one another; the epochs of a trial that is logged; and the side of the images in a folder that is read for the
first time. ``exponent``: the slope of log seconds over log size (of images: pixels); 1 is linear, and a fixed cost
lowers it. Memory is the process's peak beyond its imports. The growth of a report is measured in ``report.py``.
"""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
from _side_by_side import asked, in_turn, keep, peak_mebibytes, where

from lightning_modules.data.datasets import prepare_dataset
from lightning_modules.specs.data import Data
from lightning_modules.specs.scale import Scale
from studies import protocols
from studies.design.declare import declare
from studies.design.trial import Trial
from studies.execution.resources import Resources
from studies.records.identity import TrialKey
from studies.runner.context import prepare_study
from studies.runner.driver import make_gate
from studies.runner.stage import StageRunner
from studies.runner.study_run import StudyRun
from studies.runner.trial_store import TrialStore
from studies.settings import Settings
from studies.tracking.store import open_store

SIZES = {
    "trials": (250, 500, 1000, 2000),
    "arms": (4, 8, 16, 32),
    "epochs": (50, 100, 200, 400),
    "pixels": (32, 64, 128, 256),
}
ARMS_OF_TRIALS, IMAGES = 5, 300
GOAL = "1.1 or less"
NETWORK = """
from torch import nn


def small(classes: int, width: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, width, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * width, classes)
    )
"""
ABLATION = '''
"""Does the width matter?"""

from ablations import Ablation, Arm
from lightning_modules.spec import Custom



def arm(width):
    network = Custom(class_path="growing.small", init_args={{"classes": "$classes", "width": width}})
    return Arm(str(width), {{"network": network}})


ARMS = [arm(width) for width in range(8, 8 + {arms})]
ABLATION = Ablation(question=__doc__, baseline=ARMS[0], arms=tuple(ARMS[1:]), varies=("network.init_args.width",))
'''


def plan(folder: Path, arms: int, trials: int) -> float:
    """All that `ablate run` does before it trains."""
    (folder / "growing.py").write_text(NETWORK)
    (folder / "widths.py").write_text(ABLATION.format(arms=arms))
    settings = Settings.from_environment(folder / "runs")
    settings.create_folders()
    open_store(settings)  # made once, however large the study
    began = time.perf_counter()
    study = declare(str(folder / "widths.py"), seeds=trials // arms)
    context = prepare_study(study, settings, Resources(), lambda _: None)
    run_id = context.store.writer.register_study(context.registration, context.conditions, context.tags)
    study_run = StudyRun(context, TrialStore(context), run_id)
    stage = StageRunner(study_run, ExitStack(), "matching", make_gate(context), quiet=True)
    found = stage.plan_trials(study.trials())
    stage.make_manifest(found.to_train, context.revision_tags).write(context.study_folder)
    seconds = time.perf_counter() - began
    assert len(found.to_train) == trials
    return seconds


def record(folder: Path, epochs: int) -> float:
    """A trial of twenty curves."""
    from report import DIGESTS, registration, result

    settings = Settings.from_environment(folder)
    settings.create_folders()
    store = open_store(settings)
    tags = {"study": "depth", "protocol": "made-up", "revision": "0"}
    registered = registration(1)
    parent = store.writer.register_study(registered, "made-up", tags)
    fit = Trial(arm="A", setup=protocols.load("digits").setup, seed=0)
    run = store.writer.start_trial(parent, fit, TrialKey.from_digests("A-0", DIGESTS), tags, registered)
    made = result("A", 0)
    curves = {name: tuple(np.resize(values, epochs).tolist()) for name, values in made.curves.items()}
    made = replace(made, curves=curves, times=tuple((1.8e9 + 2.5 * np.arange(epochs)).tolist()))
    began = time.perf_counter()
    store.writer.log_curves(run, made)
    store.writer.end_trial(run, made)
    return time.perf_counter() - began


def read(folder: Path, side: int) -> float:
    """PNG files, decoded and kept."""
    from PIL import Image

    random = np.random.default_rng(0)
    for part, count in (("train", IMAGES), ("test", IMAGES // 3)):
        for number in range(count):
            place = folder / "data" / part / str(number % 10)
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(place / f"{number}.png")
    scale = Scale(resolution=side, channels=3, classes=10)
    began = time.perf_counter()
    prepare_dataset(Data(source="folder"), scale, folder / "data", folder / "cache")
    return time.perf_counter() - began


KINDS: dict[str, Callable[[Path, int], float]] = {
    "trials": lambda folder, size: plan(folder, ARMS_OF_TRIALS, size),
    "arms": lambda folder, size: plan(folder, size, size),
    "epochs": record,
    "pixels": read,
}


def alone(kind: str, size: int) -> None:
    """One size, in this process; prints seconds, and mebibytes beyond what was loaded."""
    with tempfile.TemporaryDirectory() as folder:  # what is loaded when it is first needed, is loaded now
        prepare_study(declare("lrn", seeds=1), Settings.from_environment(folder), Resources(), lambda _: None)
    before = peak_mebibytes()
    with tempfile.TemporaryDirectory() as folder:
        seconds = KINDS[kind](Path(folder), size)
    print(json.dumps([seconds, peak_mebibytes() - before]))


def exponent(sizes: Sequence[int], values: Sequence[float]) -> float:
    """The slope of logarithm over logarithm."""
    return float(np.polyfit([math.log(size) for size in sizes], [math.log(value) for value in values], 1)[0])


def main() -> None:
    """Every kind, every size, in turn."""
    if sys.argv[1:2] == ["--alone"]:
        alone(sys.argv[2], int(sys.argv[3]))
        return
    options, found = asked(__doc__, repeats=5, quick=1), {}
    for kind, sizes in SIZES.items():
        memory: dict[str, float] = {}

        def once(size: int, kind: str = kind, memory: dict[str, float] = memory) -> float:
            line = [sys.executable, "-W", "ignore", __file__, "--alone", kind, str(size)]
            shown = subprocess.run(line, check=True, stdout=subprocess.PIPE, text=True)
            seconds, memory[str(size)] = json.loads(shown.stdout.splitlines()[-1])
            return float(seconds)

        arms = {str(size): (lambda size=size, once=once: once(size)) for size in sizes}
        seconds = in_turn(arms, options.repeats)
        middle = [statistics.median(seconds[str(size)]) for size in sizes]
        slope = exponent([size**2 for size in sizes] if kind == "pixels" else sizes, middle)
        times = ", ".join(f"{size}: {value:.2f} s" for size, value in zip(sizes, middle, strict=True))
        held = ", ".join(f"{memory[str(size)]:,.0f}" for size in sizes)
        print(f"{kind:<7} {times}   exponent {slope:.2f}, goal {GOAL}   {held} MiB", flush=True)
        found[kind] = {"sizes": sizes, "seconds": seconds, "exponent": round(slope, 3), "mebibytes": memory}
    keep("growth", {"where": where(), "kinds": found}, options)


if __name__ == "__main__":
    main()
