"""Studies without differences, drawn from trainings."""

import numpy as np

from reports.calibration.resampling import (
    center_arms,
    deal_trainings,
    draw_seeds,
    take_paired_studies,
    take_pseudo_arms,
)


def test_no_training_is_in_two_pseudo_arms():
    dealt = deal_trainings(np.arange(30.0), 50, np.random.default_rng(0))
    values = take_pseudo_arms(dealt, num_arms=5, num_seeds=6)
    assert values.shape == (50, 5, 6)
    assert all(sorted(study.ravel()) == list(range(30)) for study in values)
    assert len({tuple(study.ravel()) for study in values}) == 50


def test_paired_studies_take_whole_seeds_of_all_arms():
    errors = np.arange(10.0) + 100 * np.arange(4)[:, None]  # seed s of arm a is 100 a + s
    seeds = draw_seeds(10, 200, 7, np.random.default_rng(0))
    studies = take_paired_studies(errors, seeds, num_arms=4)
    assert (studies % 100 == seeds[:, None, :]).all()
    assert (studies // 100 == np.arange(4)[None, :, None]).all()


def test_a_smaller_study_has_the_baseline_and_every_choice_of_the_others():
    errors = np.repeat(np.arange(4.0)[:, None], 5, axis=1)
    studies = take_paired_studies(errors, np.zeros((30, 2), dtype=int), num_arms=3)
    choices = {tuple(study[:, 0]) for study in studies}
    assert choices == {(0, 1, 2), (0, 1, 3), (0, 2, 3)}


def test_centered_arms_do_not_differ_and_keep_their_noise():
    errors = np.random.default_rng(0).gamma(2, size=(3, 40)) * np.array([[1.0], [2.0], [3.0]])
    centered = center_arms(errors)
    assert np.allclose(centered.mean(axis=1), 0)
    assert np.allclose(np.cov(centered), np.cov(errors))
