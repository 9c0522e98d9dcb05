"""What a study would do, before anything is spent."""

from __future__ import annotations

import time
from typing import Any

from ablations import summarise
from lightning_modules.profile import profile
from lightning_modules.spec import Setup
from studies.declaring import changed_and_held
from studies.machine import cores
from studies.trials import Study

ASSUMED_EXAMPLES = {"digits": 600, "cifar10": 50_000, "cifar100": 50_000, "folder": 50_000}
TIMED_STEPS = 3


def preview(study: Study) -> dict[str, Any]:
    """Question, arms, what each changes, what is held, claims, trials and estimated time, as plain data."""
    setups = study.setups()
    changes, held = changed_and_held(setups)
    seconds = {arm: seconds_per_trial(setup) for arm, setup in setups.items()}
    arms = {
        arm: {
            "changes": list(summarise(changes.get(arm, ()))),
            "properties": dict(profile(setup.network, setup.scale).properties()),
            "seconds": seconds[arm],
        }
        for arm, setup in setups.items()
    }
    workers = cores()
    total = sum(seconds.values()) * len(study.seeds)
    return {
        "study": study.name,
        "question": study.ablation.question.strip(),
        "protocol": study.protocol.name,
        "baseline": next(iter(setups)),
        "varies": list(study.ablation.varies),
        "forced": dict(study.ablation.forced),
        "arms": arms,
        "held": held,
        "claims": [claim.sentence for claim in study.ablation.claims],
        "seeds": list(study.seeds),
        "trials": len(study.trials()),
        "workers": workers,
        "minutes": total / workers / 60,
    }


def seconds_per_trial(setup: Setup) -> float:
    """Training time of one trial on one core of this machine, from a few timed steps. Nothing is read or kept."""
    import torch
    from torch.nn import functional

    from lightning_modules.classifier import Classifier

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    model = Classifier(setup.network, setup.scale, setup.recipe, seed=0)
    side = setup.scale.resolution
    images = torch.zeros(setup.recipe.batch_size, setup.scale.channels, side, side)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.zeros(setup.recipe.batch_size, dtype=torch.int64)
    times = []
    for _ in range(1 + TIMED_STEPS):
        began = time.perf_counter()
        functional.cross_entropy(model(images), labels).backward()  # type: ignore[no-untyped-call]
        times.append(time.perf_counter() - began)
    torch.set_num_threads(threads)
    trained = ASSUMED_EXAMPLES[setup.data.source] * setup.data.train_fraction * (1 - setup.data.validation_fraction)
    return min(times[1:]) * setup.recipe.epochs * trained / setup.recipe.batch_size
