"""Norms of layers have another name in MLflow than in a result, and earlier versions' names are read as well."""

import pytest

from studies.tracking.interface.metric_names import curve_name, metric_name, to_curves
from tests.reports import golden

LAYER_CURVE = "gradient_norm/stage1.conv1"


@pytest.mark.parametrize("curve", ["test_error", "gradient_norm", LAYER_CURVE, "logged/gradient_norm/a"])
def test_a_name_is_read_back_as_logged_now_and_by_earlier_versions(curve):
    assert curve_name(metric_name(curve)) == curve
    assert curve_name(curve) == curve


def test_norms_of_layers_form_no_group_of_charts_and_come_behind_every_error_and_loss():
    name = metric_name(LAYER_CURVE)
    assert "/" not in name
    assert name > "validation_loss"


def test_what_a_running_trial_has_logged_is_read_by_the_names_of_curves():
    assert to_curves({"train_loss": 1.0, metric_name(LAYER_CURVE): 2.0}) == {"train_loss": 1.0, LAYER_CURVE: 2.0}
    assert to_curves({LAYER_CURVE: 2.0}) == {LAYER_CURVE: 2.0}


@pytest.mark.slow
@pytest.mark.xdist_group("one written study")
def test_a_recorded_trial_has_its_curves_under_these_names(written):
    trial = golden.read("healthy").find_trial("E", 1)
    history = written.store.runs.client.get_metric_history(written.trial("E", 1).info.run_id, metric_name(LAYER_CURVE))
    assert [metric.value for metric in history] == list(trial.result.curves[LAYER_CURVE])
    assert LAYER_CURVE not in written.trial("E", 1).data.metrics
    read = written.store.reader.read_study("depth", run_id=written.run_id).find_trial("E", 1)
    assert read.result.curves == trial.result.curves
