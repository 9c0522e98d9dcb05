"""What only a CUDA device can show."""

from dataclasses import replace

import pytest
import torch

from studies.fits import Fit
from studies.training import Machine, train

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")]
DIGESTS = {"data": "d", "code": "c", "platform": "p"}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_trial_learns_on_a_gpu_and_twice_the_same(small, digits, tmp_path, precision):
    recipe = replace(small.recipe, epochs=20, batch_size=32, precision=precision)
    fit = Fit(arm="A", setup=replace(small, recipe=recipe, scale=replace(small.scale, width=0.125)), seed=0)
    results = [
        train(fit, digits, tmp_path / name, digests=DIGESTS, machine=Machine(device="cuda")) for name in ("one", "two")
    ]
    assert [result.status for result in results] == ["finished", "finished"], results[0].error
    assert results[0].metrics == results[1].metrics
    assert results[0].cost["peak_memory_bytes"] > 0
