"""What a study would do, before anything is spent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from itertools import chain
from typing import Any

from ablations import Contrast, contrast, forced_with, summarise
from lightning_modules.spec import Setup
from studies.building import build_all, parts_changed
from studies.declaring import changed_and_held
from studies.estimate import seconds_per_study, seconds_per_trial
from studies.machine import cores
from studies.trials import Study


def preview(study: Study) -> dict[str, Any]:
    """Question, arms, what each changes, what is held, claims, trials and estimated time, as plain data."""
    setups = study.setups()
    changes, held = changed_and_held(setups)
    networks = build_all(setups)
    seconds = {arm: seconds_per_trial(setup) for arm, setup in setups.items()}
    donors = {donor: seconds_per_trial(setup) for donor, setup in _donors(study).items() if donor not in setups}
    baseline = networks[next(iter(setups))]
    arms = {
        arm: {
            "changes": list(summarise(changes.get(arm, ()))),
            "properties": dict(network.properties),
            "parts": len(parts_changed(baseline, network)),
            "contrast": _told(
                contrast(
                    baseline.properties,
                    network.properties,
                    study.ablation.property_studied,
                    forced_with(changes.get(arm, ()), study.ablation.forced),
                )
            ),
            "unknown": list(network.unknowns),
            "seconds": seconds[arm],
        }
        for arm, network in networks.items()
    }
    workers = cores()
    known = [each for each in (*seconds.values(), *donors.values()) if each is not None]
    complete = len(known) == len(seconds) + len(donors)
    total = seconds_per_study(_seconds_of_all(study, setups, seconds, sum(known)), 1, workers) if complete else None
    return {
        "study": study.name,
        "question": study.ablation.question.strip(),
        "protocol": study.protocol.name,
        "baseline": next(iter(setups)),
        "varies": list(study.ablation.varies),
        "forced": dict(study.ablation.forced),
        "property_studied": study.ablation.property_studied,
        "donors": study.donors,
        "tested": {arm: list(names) for arm, names in study.tested.items()},
        "arms": arms,
        "held": held,
        "claims": [claim.sentence for claim in study.ablation.claims],
        "seeds": list(study.seeds),
        "looks": list(study.looks),
        "tuning": _told_tuning(study, setups),
        "trials": len(study.trials()),
        "workers": workers,
        "minutes": total / 60 if total is not None else None,
    }


def _seconds_of_all(
    study: Study, setups: Mapping[str, Setup], seconds: Mapping[str, float | None], of_seed: float
) -> float:
    """Every trial of the study, one after the other: under its seeds, as candidates, and under the tuned recipes."""
    total = of_seed * len(study.seeds)
    if study.tuning is None:
        return total
    lengths = {arm: setup.recipe.epochs for arm, setup in setups.items()}
    tuning = sum((seconds[arm] or 0) * study.tuning.epochs(length) / length for arm, length in lengths.items())
    return 2 * total + tuning


def _told_tuning(study: Study, setups: Mapping[str, Setup]) -> dict[str, Any] | None:
    """The budget in words, and what every arm's candidates are trained for, in epochs."""
    if study.tuning is None:
        return None
    epochs = {arm: study.tuning.epochs(setup.recipe.epochs) for arm, setup in setups.items()}
    return {"budget": study.tuning.words, "epochs": epochs, "seeds": list(study.tuning.seeds)}


def _donors(study: Study) -> dict[str, Setup]:
    names = {*study.donors.values(), *chain(*study.tested.values())}
    return {fit.arm: fit.setup for fit in study.trials() if fit.arm in names}


def _told(found: Contrast) -> dict[str, Any]:
    return {
        "clean": found.clean,
        "moved": [asdict(move) for move in found.moved],
        "unknown": list(found.unknown),
        "forced": list(found.forced),
    }
