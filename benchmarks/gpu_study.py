"""A claim: a study of four arms and five seeds on a GPU takes an eighth of the time of ordinary Lightning scripts.

Cost: about four minutes on a GPU. Command: ``python benchmarks/gpu_study.py --device cuda [--write]``.

The arms are VGG-A, VGG-B, VGG-D and VGG-E at full width on synthetic images of CIFAR-10's shape (45,000 per training
epoch, batches of 128, bfloat16). Of each arm, five seeds train at once in one process, as a bundle does, and one trial
trains by an ordinary Lightning script with loading processes. Of both, the seconds of an epoch and the seconds beside
the epochs are measured; the time of the study is computed from them for 5, 30 and 100 epochs, the trials of the script
one after the other. Not in it: Ray and MLflow, whose work overlaps with the training.
"""

from __future__ import annotations

import os
from typing import Any

from _gpu_sizes import Sizes, make_dataset
from _gpu_stock import fit_stock
from _side_by_side import asked, keep, where
from gpu import make_setup, run_bundle

ARMS = ("vgg-a", "vgg-b", "vgg-d", "vgg-e")
NUM_SEEDS = 5
EPOCHS = (5, 30, 100)
GOAL = 8.0  # at the largest number of epochs


def measure_arm(name: str, sizes: Sizes) -> dict[str, Any]:
    """Seconds of one trial of an arm, per epoch and beside its epochs, in a bundle and by the script."""
    trials = run_bundle(make_setup(name, sizes.epochs, sizes), make_dataset(sizes.num_images), sizes.device, NUM_SEEDS)
    epoch_seconds = max(trial["epoch_seconds"] for trial in trials) / NUM_SEEDS
    whole_seconds = max(trial["whole_seconds"] for trial in trials) / NUM_SEEDS
    bundle = {
        "epoch_seconds": epoch_seconds,
        "fixed_seconds": max(0.0, whole_seconds - sizes.epochs * epoch_seconds),
    }
    cores = len(os.sched_getaffinity(0))
    stock = fit_stock(name, sizes, 0 if sizes.smallest else max(1, cores - 1))
    print(
        f"{name:<8} a seed in a bundle of {NUM_SEEDS}: {bundle['epoch_seconds']:.3f} s an epoch and "
        f"{bundle['fixed_seconds']:.2f} s beside; by the script {stock['epoch_seconds']:.3f} s and "
        f"{stock['fixed_seconds']:.2f} s",
        flush=True,
    )
    return {"arm": name, "bundle": bundle, "script": stock}


def study_seconds(rows: list[dict[str, Any]], way: str, epochs: int) -> float:
    """Seconds of all trials of the study."""
    trial_seconds = [float(row[way]["fixed_seconds"] + epochs * row[way]["epoch_seconds"]) for row in rows]
    return NUM_SEEDS * sum(trial_seconds)


def main() -> None:
    """Measure every arm, and compute the study."""
    options = asked(__doc__)
    sizes = Sizes(options.device, smallest=options.smallest)
    arms = ARMS[:1] if options.smallest else ARMS
    rows = [measure_arm(name, sizes) for name in arms]
    ratios: dict[str, float] = {}
    for epochs in EPOCHS:
        script, bundle = (study_seconds(rows, way, epochs) for way in ("script", "bundle"))
        ratios[str(epochs)] = script / bundle
        goal = f"goal {GOAL:g} or more" if epochs == EPOCHS[-1] else ""
        print(
            f"{len(arms)} arms x {NUM_SEEDS} seeds x {epochs:3} epochs: {bundle:8,.0f} s, by the script "
            f"{script:8,.0f} s: {script / bundle:.2f} times as fast  {goal}",
            flush=True,
        )
    keep("gpu_study", {"where": where(), "arms": rows, "times_as_fast": ratios}, options)


if __name__ == "__main__":
    main()
