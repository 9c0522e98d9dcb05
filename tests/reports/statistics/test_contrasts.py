import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.formula.api import ols

from reports.statistics import (
    arm_interval,
    critical_value,
    estimate_combinations,
    estimate_contrasts,
    fit_additive_model,
)

MANY_TO_ONE = [("A", "B"), ("A", "C"), ("A", "D")]


def table(arms=4, seeds=5, seed=0):
    return np.random.default_rng(seed).normal(10, 1, size=(arms, seeds))


def statsmodels_fit(values):
    arm, seed = np.nonzero(np.isfinite(values))
    return ols("y ~ C(arm) + C(seed)", pd.DataFrame({"y": values[arm, seed], "arm": arm, "seed": seed})).fit()


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
def test_a_paired_t_interval_is_what_two_arms_get(seeds):
    values = table(2, seeds)
    (found,) = estimate_contrasts(values, ["A", "B"], [("A", "B")])
    expected = stats.ttest_rel(values[0], values[1]).confidence_interval()
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-9)


def test_two_arms_get_the_one_sided_bounds_of_tost():
    values = table(2, 6)
    (found,) = estimate_contrasts(values, ["A", "B"], [("A", "B")])
    expected = stats.ttest_rel(values[0], values[1]).confidence_interval(0.90)
    assert (found.low_one_sided, found.high_one_sided) == pytest.approx((expected.low, expected.high), rel=1e-9)


def test_a_positive_estimate_means_the_arm_is_lower():
    (found,) = estimate_contrasts([[10.0, 11.0, 12.0], [9.0, 9.5, 11.0]], ["A", "B"], [("A", "B")])
    assert found.estimate == pytest.approx(3.5 / 3)


def test_the_residual_mean_square_is_that_of_the_additive_model():
    values = table()
    fit = statsmodels_fit(values)
    assert fit_additive_model(values) == pytest.approx((fit.mse_resid, fit.df_resid))


def test_missing_cells_are_fitted_by_least_squares():
    values = table()
    values[1, 2] = values[3, 0] = values[3, 4] = np.nan
    fit = statsmodels_fit(values)
    assert fit_additive_model(values) == pytest.approx((fit.mse_resid, fit.df_resid))
    assert fit_additive_model(values)[1] == 17 - 4 - 5 + 1


def test_arms_that_share_no_seed_are_fitted_apart():
    values = np.full((3, 6), np.nan)
    values[:2, :3], values[2, 3:] = table(2, 3), table(1, 3)
    fit = statsmodels_fit(values[:2, :3])
    assert fit_additive_model(values) == pytest.approx((fit.mse_resid, fit.df_resid))


def test_bytes_are_compared_as_well_as_points():
    values = table() * 1e9
    in_bytes, in_gigabytes = (estimate_contrasts(each, list("ABCD"), MANY_TO_ONE)[0] for each in (values, values / 1e9))
    assert in_bytes.high == pytest.approx(1e9 * in_gigabytes.high, rel=1e-9)


def test_the_widest_of_three_variances_counts():
    values = table()
    differences = values[0] - values[1:]
    own = differences.var(axis=1, ddof=1)
    widest = np.maximum(own, max(2 * statsmodels_fit(values).mse_resid, own.mean()))
    found = estimate_contrasts(values, list("ABCD"), MANY_TO_ONE)
    assert [each.standard_error for each in found] == pytest.approx(np.sqrt(widest / 5))


def test_the_interval_uses_dunnetts_value():
    found = estimate_contrasts(table(), list("ABCD"), MANY_TO_ONE)[0]
    value = critical_value(np.full((3, 3), 0.5) + 0.5 * np.eye(3), 12)
    assert not found.is_noisy
    assert found.high - found.estimate == pytest.approx(value * found.standard_error, rel=1e-9)


def test_a_contrast_of_its_own_gets_students_t_in_a_larger_family():
    found = estimate_contrasts(table(), list("ABCD"), MANY_TO_ONE)[0]
    own = (found.high_individual_one_sided - found.estimate) / found.standard_error
    both_sides = (found.high_individual - found.estimate) / found.standard_error
    assert (own, both_sides) == pytest.approx((stats.t.ppf(0.95, 12), stats.t.ppf(0.975, 12)))


def test_a_missing_cell_leaves_the_other_pairs_of_the_contrast():
    values = table()
    values[1, 2] = np.nan
    first, second, _ = estimate_contrasts(values, list("ABCD"), MANY_TO_ONE)
    kept = [0, 1, 3, 4]
    assert (first.num_pairs, first.num_planned, second.num_pairs) == (4, 5, 5)
    assert first.estimate == pytest.approx(np.mean(values[0, kept] - values[1, kept]))


def test_any_pairs_of_arms_make_a_family():
    chain = estimate_contrasts(table(), list("ABCD"), [("A", "B"), ("B", "C"), ("C", "D")])
    rows = np.array([[1, -1, 0, 0], [0, 1, -1, 0], [0, 0, 1, -1]]) / np.sqrt(2)
    value = critical_value(rows @ rows.T, 12)
    assert chain[0].high - chain[0].estimate == pytest.approx(value * chain[0].standard_error, rel=1e-9)


def test_a_general_contrast_scales_the_pooled_variance_by_its_weights():
    values = table()
    (found,) = estimate_combinations(values, [[1, -1, -1, 1]])
    own = (values[0] - values[1] - values[2] + values[3]).var(ddof=1)
    assert found.standard_error == pytest.approx(math.sqrt(max(own, 4 * fit_additive_model(values)[0]) / 5))


@pytest.mark.parametrize("noisy_arm", [0, 1])
def test_a_noisy_arm_widens_the_intervals_it_takes_part_in(noisy_arm):
    values = table(4, 5, seed=1)
    values[noisy_arm] = 10 + 30 * (values[noisy_arm] - 10)
    found = estimate_contrasts(values, list("ABCD"), MANY_TO_ONE)
    assert [each.is_noisy for each in found] == ([True] * 3 if noisy_arm == 0 else [True, False, False])
    own_error = np.std(values[0] - values[1], ddof=1) / math.sqrt(5)
    assert found[0].high - found[0].estimate >= stats.t.ppf(1 - 0.05 / 6, 4) * own_error - 1e-9


@pytest.mark.parametrize(
    ("level", "arm", "family", "noisy"),
    [
        (0.92, 0, MANY_TO_ONE, [True, True, True]),  # the baseline: from the 90% point of F on
        (0.88, 0, MANY_TO_ONE, [False, False, False]),
        (0.92, 1, MANY_TO_ONE, [False, False, False]),  # an arm of one contrast: from the 95% point on
        (0.97, 1, MANY_TO_ONE, [True, False, False]),
        (0.92, 3, [("A", "D"), ("B", "D")], [True, True]),  # an arm that two contrasts share: from 90% on
    ],
)
def test_an_arm_is_noisy_beyond_a_point_of_f(level, arm, family, noisy):
    values = np.tile([-1.0, -0.5, 0.0, 0.5, 1.0], (4, 1))
    values[arm] *= math.sqrt(stats.f.ppf(level, 4, 12))
    assert [each.is_noisy for each in estimate_contrasts(values, list("ABCD"), family)] == noisy


def test_two_arms_have_no_noise_guard():
    values = np.array([[10.0, 40.0, -20.0], [1.0, 1.1, 1.2]])
    assert not estimate_contrasts(values, ["A", "B"], [("A", "B")])[0].is_noisy


@pytest.mark.parametrize("offset", [0.0, 0.3])
def test_identical_differences_give_an_interval_without_width(offset):
    base = np.array([10.1, 10.7, 11.3, 9.9])
    (found,) = estimate_contrasts([base, base - offset], ["A", "B"], [("A", "B")])
    assert found.standard_error == 0
    assert (found.low, found.high) == pytest.approx((offset, offset))


def test_arms_that_do_not_vary_at_all_are_not_noisy():
    found = estimate_contrasts(np.repeat([[10.0], [9.0], [8.0]], 3, axis=1), list("ABC"), [("A", "B"), ("A", "C")])
    assert [(each.low, each.high, each.is_noisy) for each in found] == [(1.0, 1.0, False), (2.0, 2.0, False)]


@pytest.mark.parametrize("missing", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_missing(missing):
    values = table(2, 4)
    values[1, 0] = missing
    (found,) = estimate_contrasts(values, ["A", "B"], [("A", "B")])
    expected = stats.ttest_rel(values[0, 1:], values[1, 1:]).confidence_interval()
    assert (found.num_pairs, found.low) == (3, pytest.approx(expected.low))


@pytest.mark.parametrize(("pairs", "estimate"), [(0, math.nan), (1, 2.0)])
def test_fewer_than_two_pairs_give_an_infinite_interval(pairs, estimate):
    values = np.full((2, 3), np.nan)
    values[:, :pairs] = [[12.0], [10.0]]
    (found,) = estimate_contrasts(values, ["A", "B"], [("A", "B")])
    assert (found.low, found.high, found.standard_error) == (-math.inf, math.inf, math.inf)
    assert found.estimate == pytest.approx(estimate, nan_ok=True)


def test_an_arm_that_never_trained_leaves_the_family_of_the_others():
    values = table()
    values[3] = np.nan
    with_lost_arm = estimate_contrasts(values, list("ABCD"), MANY_TO_ONE)
    without = estimate_contrasts(values[:3], list("ABC"), MANY_TO_ONE[:2])
    assert math.isinf(with_lost_arm[2].high)
    assert [each.high for each in with_lost_arm[:2]] == pytest.approx([each.high for each in without])


@pytest.mark.parametrize("shape", [(3, 0), (3, 1), (1, 5)])
def test_tables_too_small_for_an_interval_raise_nothing(shape):
    found = estimate_contrasts(np.ones(shape), list("ABC")[: shape[0]], [("A", "B")] if shape[0] > 1 else [])
    assert all(math.isinf(each.high) for each in found)


def test_the_same_numbers_give_the_same_bits():
    first, second = (estimate_contrasts(table(), list("ABCD"), MANY_TO_ONE) for _ in range(2))
    assert first == second


def test_equivalence_is_shown_from_the_larger_one_sided_bound_on():
    found = estimate_contrasts(table(), list("ABCD"), MANY_TO_ONE)[0]
    assert found.equivalence_margin == max(abs(found.low_one_sided), abs(found.high_one_sided))


def test_an_unknown_arm_is_named_in_the_error():
    with pytest.raises(ValueError, match=r"\('A', 'X'\) is no contrast; expected two of: A, B"):
        estimate_contrasts(table(2), ["A", "B"], [("A", "X")])


def test_a_table_of_another_height_is_refused():
    with pytest.raises(ValueError, match="expected one row for each of 3 arms"):
        estimate_contrasts(table(2), ["A", "B", "C"], [("A", "B")])


def test_one_arm_gets_its_own_t_interval():
    values = np.array([10.0, 11.0, 13.0, np.nan])
    found = arm_interval(values)
    expected = stats.ttest_1samp(values[:3], 0).confidence_interval()
    assert (found.mean, found.low, found.high, found.num_seeds) == pytest.approx(
        (34 / 3, expected.low, expected.high, 3)
    )


@pytest.mark.parametrize("values", [[], [np.nan, np.inf], [7.0]])
def test_an_arm_with_less_than_two_seeds_has_an_infinite_interval(values):
    found = arm_interval(values)
    assert (found.low, found.high) == (-math.inf, math.inf)
