"""What only a CUDA device can show."""

from dataclasses import replace

import pytest
import torch

import studies
from studies.design.trial import Trial
from studies.execution.resources import Resources
from studies.hardware import Machine
from studies.training.train import train_trial
from tests.studies.conftest import SHORT

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")]
DIGESTS = {"data": "d", "code": "c", "platform": "p"}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_trial_learns_on_a_gpu_and_twice_the_same(small, digits, tmp_path, precision):
    recipe = replace(small.recipe, epochs=20, batch_size=32, precision=precision)
    fit = Trial(arm="A", setup=replace(small, recipe=recipe, scale=replace(small.scale, width=0.125)), seed=0)
    results = [
        train_trial(fit, digits, tmp_path / name, digests=DIGESTS, machine=Machine(device="cuda"))
        for name in ("one", "two")
    ]
    assert [result.status for result in results] == ["finished", "finished"], results[0].error
    assert results[0].metrics == results[1].metrics
    assert results[0].cost["peak_memory_bytes"] > 0


def test_a_share_of_a_gpu_limits_the_memory_of_a_trial(small, digits, tmp_path):
    """More than its share is a fault of the machine, and no result."""
    fit = Trial(arm="A", setup=replace(small, scale=replace(small.scale, width=4.0)), seed=0)
    machine = Machine(device="cuda", gpu_memory_fraction=1e-4)
    try:
        with pytest.raises(torch.OutOfMemoryError):
            train_trial(fit, digits, tmp_path, digests=DIGESTS, machine=machine)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two CUDA devices here")
def test_a_trial_on_two_gpus_comes_to_what_one_comes_to(tmp_path):
    overrides = {**SHORT, "recipe.learning_rate": 0.02, "scale.width": 0.125}
    one, two = (
        studies.run(
            "lrn", seeds=(0,), overrides=overrides, runs=tmp_path / str(count), quiet=True, say=[].append,
            resources=Resources(gpus_per_trial=count),
        ).find_trial("A", 0).result
        for count in (1, 2)
    )  # fmt: skip
    assert two.environment["workers"] == 2
    assert two.evidence == one.evidence
    assert two.metrics["test_loss"] == pytest.approx(one.metrics["test_loss"], rel=0.01)
