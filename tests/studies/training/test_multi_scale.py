"""Trials at many scales, and under a rate that waits for the validation error: the same bits, resumed or not."""

from dataclasses import replace

import pytest

from lightning_modules.specs.setup import WarmStart
from studies.design.trial import Trial
from studies.training.callback import TrainingRecorder
from tests.studies.training.test_train import Interrupted, bits, run

SIDES = {"augmentation": "crop-flip-colour", "side_from": 8 / 7, "side_to": 16 / 7}


def resumed(fit, examples, folder, monkeypatch, after):
    """Train a fit, cut off after an epoch, from its checkpoint to its end."""
    save, saved = TrainingRecorder.save_checkpoint, []

    def stop(values):
        if values["epoch"] == after:
            raise Interrupted

    monkeypatch.setattr(
        TrainingRecorder, "save_checkpoint", lambda self, trainer: (save(self, trainer), saved.append(1))
    )
    with pytest.raises(Interrupted):
        run(fit, examples, folder, on_epoch=stop, checkpoint_seconds=0.0)
    assert len(saved) == after
    return run(fit, examples, folder)


def test_a_trial_at_many_scales_that_was_cut_off_ends_with_the_same_bits(small, digits, tmp_path, monkeypatch):
    fit = Trial(arm="A", setup=replace(small, recipe=replace(small.recipe, epochs=3, **SIDES)), seed=0)
    run(fit, digits, tmp_path / "whole")
    resumed(fit, digits, tmp_path / "parts", monkeypatch, after=1)
    assert bits(tmp_path / "parts") == bits(tmp_path / "whole")


def test_a_plateau_that_was_cut_off_ends_with_the_same_bits_and_divides_its_rate(small, digits, tmp_path, monkeypatch):
    recipe = replace(small.recipe, epochs=6, schedule="plateau", patience=1, learning_rate=1e-4, warmup=0.0)
    fit = Trial(arm="A", setup=replace(small, recipe=recipe), seed=0)
    result = run(fit, digits, tmp_path / "whole")
    rates, errors = result.curves["learning_rate"], result.curves["validation_error"]
    for epoch in range(1, 6):
        stalled = errors[epoch - 1] >= min([*errors[: epoch - 1], 101])
        expected = rates[epoch - 1] / 10 if stalled and rates[epoch - 1] > 2e-7 else rates[epoch - 1]
        assert rates[epoch] == pytest.approx(expected)
    assert rates[-1] < rates[0]
    resumed(fit, digits, tmp_path / "parts", monkeypatch, after=4)
    assert bits(tmp_path / "parts") == bits(tmp_path / "whole")


def test_arms_of_other_sides_share_split_order_and_steps(small, digits, tmp_path):
    recipes = [replace(small.recipe, epochs=1, **(SIDES | {"side_to": side})) for side in (16 / 7, 8 / 7)]
    first, second = (
        run(
            Trial(arm="A", setup=replace(small, recipe=recipe), seed=0), digits, tmp_path / str(recipe.side_to)
        ).evidence
        for recipe in recipes
    )
    assert all(first[name] == second[name] for name in ("split", "order", "steps", "weights.stage1.conv1"))
    assert first["augmentation"] != second["augmentation"]


def test_a_chain_trains_its_donor_by_its_own_recipe(small, digits, tmp_path):
    start = WarmStart(
        network=small.network, layers=("stage1", "stage2", "head"), recipe={"side_from": 8 / 7, "side_to": 8 / 7}
    )
    recipe = replace(small.recipe, epochs=1, augmentation="crop-flip", side_from=12 / 7, side_to=12 / 7)
    fit = Trial(arm="S = 384", setup=replace(small, recipe=recipe, start=start), seed=0)
    (donor,) = fit.dependencies
    assert donor.setup.recipe == replace(recipe, side_from=8 / 7, side_to=8 / 7)
    run(donor, digits, tmp_path / "donor")
    result = run(fit, digits, tmp_path / "fit", dependency_folders=[tmp_path / "donor"])
    assert result.evidence["donor"] == donor.fingerprint
    assert "stage2.conv1" in result.evidence["copied"]
