"""One trial on two workers, from `studies.run` to the record: beside another arm's trials on one, and as one would."""

from pathlib import Path

import numpy as np
import pytest

import studies
from lightning_modules.data.inventory import load_dataset
from studies.design.declare import declare
from studies.execution.resources import Resources
from studies.hardware import Machine, count_cores
from studies.training.train import train_trial
from tests.studies.conftest import SHORT
from tests.studies.training.test_data_parallel import ROUNDING

DIGESTS = {"data": "d", "code": "c", "platform": "p"}
OVERRIDES = {**SHORT, "recipe.learning_rate": 0.02, "scale.width": 0.125}

pytestmark = pytest.mark.skipif(count_cores() < 2, reason="two workers need two cores")


@pytest.mark.slow
def test_an_arm_on_two_workers_comes_to_what_one_comes_to_and_its_record_says_so(tmp_path, one_ray):
    resources = Resources().for_arm("A-LRN", workers=2)
    study = {"seeds": (0,), "overrides": OVERRIDES}
    record = studies.run("lrn", **study, runs=tmp_path / "runs", resources=resources, quiet=True, say=[].append)
    two, other = record.find_trial("A-LRN", 0).result, record.find_trial("A", 0).result
    assert two.status != "failed", two.error
    (fit,) = [fit for fit in declare("lrn", **study).trials() if fit.arm == "A-LRN"]
    examples = load_dataset(fit.setup, Path("unused"), tmp_path / "runs" / "cache")
    one = train_trial(fit, examples, tmp_path / "one", digests=DIGESTS, machine=Machine())
    assert (one.environment["workers"], two.environment["workers"], other.environment["workers"]) == (1, 2, 1)
    assert two.digests["platform"] != other.digests["platform"]
    assert two.evidence == one.evidence
    for curve in ("train_loss", "validation_loss", "gradient_norm"):
        np.testing.assert_allclose(two.curves[curve], one.curves[curve], rtol=ROUNDING, err_msg=curve)
    assert two.metrics["test_loss"] == pytest.approx(one.metrics["test_loss"], rel=ROUNDING)
    assert not list((tmp_path / "runs").glob("ray-*"))
