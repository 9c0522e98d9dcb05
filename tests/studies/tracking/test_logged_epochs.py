"""Points per curve in the tracking store."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace

from studies.tracking.interface.trial_values import is_logged
from studies.tracking.writer import StudyWriter


def test_every_epoch_of_an_ordinary_trial_is_logged():
    assert all(map(is_logged, range(512)))


def test_points_grow_with_the_logarithm_of_the_epochs():
    assert sum(map(is_logged, range(5_000))) == 1_337
    assert sum(map(is_logged, range(1_000_000))) < 3_500


def test_what_is_logged_lies_evenly():
    logged = [epoch for epoch in range(2_048, 4_096) if is_logged(epoch)]
    assert {later - earlier for earlier, later in pairwise(logged)} == {8}


def test_errors_come_before_norms_of_layers_in_the_order_of_logging():
    logged = []
    runs = SimpleNamespace(log_metrics=lambda _, metrics: logged.extend(metric.key for metric in metrics))
    values = {"gradient_norm/head": 1.0, "train_loss": 2.0, "learning_rate": 0.1, "validation_error": 9.0}
    StudyWriter(runs).log_epochs("run", [{"epoch": 0, "time": 1.0, **values}])
    assert logged == ["validation_error", "train_loss", "learning_rate", "weight_gradient_norm.head"]
