"""Points per curve in the tracking store."""

from __future__ import annotations

from itertools import pairwise

from studies.tracking.interface.trial_values import is_logged


def test_every_epoch_of_an_ordinary_trial_is_logged():
    assert all(map(is_logged, range(512)))


def test_points_grow_with_the_logarithm_of_the_epochs():
    assert sum(map(is_logged, range(5_000))) == 1_337
    assert sum(map(is_logged, range(1_000_000))) < 3_500


def test_what_is_logged_lies_evenly():
    logged = [epoch for epoch in range(2_048, 4_096) if is_logged(epoch)]
    assert {later - earlier for earlier, later in pairwise(logged)} == {8}
