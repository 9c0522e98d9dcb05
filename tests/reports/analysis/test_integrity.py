"""Whether paired trials shared what they should, as far as both went. Made-up numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ablations import Difference
from lightning_modules.data.datamodule import DataSplit, EpochLoader
from lightning_modules.specs.recipe import Recipe
from reports.comparison.comparison import compare_arms
from tests.reports.records import ARMS, EPOCHS, changes, record

BY_EPOCH = ("Data order", "Augmentation", "Steps")


def stopped(study, arm, seed, epochs=1):
    """The study with a trial whose loss was no number after some epochs."""

    def ended(result):
        evidence = {**result.evidence, "order": "short", "augmentation": "short", "steps": 21 * epochs}
        return replace(result, status="non-finite", times=result.times[:epochs], evidence=evidence)

    trials = tuple(
        replace(each, state="non-finite", result=ended(each.result)) if (each.arm, each.seed) == (arm, seed) else each
        for each in study.trials
    )
    return replace(study, trials=trials)


def checks(study):
    return {check.subject: check for check in compare_arms(study).integrity_checks}


def digests(batch_size, augmentation="shift-flip"):
    images = torch.zeros((50, 8, 8, 1), dtype=torch.uint8)
    part = DataSplit(images, torch.arange(50), torch.zeros(1), torch.ones(1))
    epoch = EpochLoader(part, Recipe(epochs=1, batch_size=batch_size, augmentation=augmentation), 3, 0)
    list(epoch)
    return epoch.order_hash.hexdigest(), epoch.augmentation_hash.hexdigest()


@pytest.mark.parametrize("batch_size", [7, 25, 50, 64])
def test_order_and_augmentation_are_the_same_under_any_batch_size(batch_size):
    assert digests(batch_size) == digests(10)


def test_another_augmentation_has_another_digest():
    assert digests(10, "shift")[1] != digests(10)[1]


def test_a_trial_that_stopped_early_breaks_no_pairing():
    compared = compare_arms(stopped(record(), "D", 3))
    assert not any("pairing" in caution for caution in compared.cautions)
    found = {check.subject: check for check in compared.integrity_checks}
    for what in BY_EPOCH:
        assert found[what].state == "in part"
        assert found[what].finding == (
            "equal to the baseline's in 14 pairs of trials, under 5 seeds; D under seed 3 stopped after 1 epoch"
        )
    assert found["Split"].state == "kept"


def test_a_baseline_that_stopped_early_is_told_once():
    found = checks(stopped(record(), "A", 3, epochs=2))["Steps"]
    assert found.finding == (
        "equal to the baseline's in 12 pairs of trials, under 4 seeds; A under seed 3 stopped after 2 epochs"
    )


def test_an_arm_that_always_stopped_early_shows_nothing():
    study = record(("A", "B"), seeds=2)
    for seed in range(2):
        study = stopped(study, "B", seed)
    found = checks(study)["Data order"]
    assert found.state == "unknown"
    assert found.finding == (
        "no two trials under one seed can show it; B under seed 0 stopped after 1 epoch and "
        "B under seed 1 stopped after 1 epoch"
    )


def test_a_diverged_trial_of_all_epochs_is_compared():
    compared = compare_arms(stopped(record(), "D", 3, epochs=EPOCHS))
    assert "The pairing is broken: data order is not the baseline's: D under seed 3." in compared.cautions


def test_a_trial_that_stopped_early_excuses_no_other_one():
    study = stopped(stopped(record(), "D", 3), "D", 4, epochs=EPOCHS)
    found = checks(study)["Data order"]
    assert (found.state, found.finding) == (
        "broken", "not the baseline's: D under seed 4; D under seed 3 stopped after 1 epoch",
    )  # fmt: skip


def test_arms_of_declared_unequal_length_have_not_stopped_early():
    longer = Difference(path="recipe.epochs", before=EPOCHS // 2, after=EPOCHS)
    study = record(changes={arm: (*changes(arm), longer) for arm in ARMS[1:]})
    found = checks(stopped(study, "A", 3, epochs=EPOCHS // 2))["Steps"]
    assert (found.state, "stopped" in found.finding) == ("declared", False)
    assert np.all([arm in found.finding for arm in ARMS[1:]])
