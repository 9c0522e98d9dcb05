import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from reports.statistics import estimate_proportion, fisher_p_value


@pytest.mark.parametrize(("count", "run"), [(0, 3), (3, 5), (5, 5), (0, 10), (7, 12)])
def test_a_share_has_the_interval_of_clopper_and_pearson(count, run):
    found = estimate_proportion(count, run)
    expected = proportion_confint(count, run, method="beta")
    exact = stats.binomtest(count, run).proportion_ci(method="exact")
    assert (found.low, found.high) == pytest.approx(expected)
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high))


@pytest.mark.parametrize(("run", "one_sided", "two_sided"), [(3, 0.63, 0.71), (5, 0.45, 0.52), (10, 0.26, 0.31)])
def test_no_divergence_in_a_few_seeds_still_allows_many(run, one_sided, two_sided):
    assert estimate_proportion(0, run).high == pytest.approx(two_sided, abs=0.006)
    assert estimate_proportion(0, run, alpha=0.10).high == pytest.approx(one_sided, abs=0.006)


def test_three_seeds_can_never_tell_two_arms_apart():
    assert fisher_p_value(estimate_proportion(3, 3), estimate_proportion(0, 3)) == pytest.approx(0.10)


def test_five_seeds_take_four_against_none():
    assert fisher_p_value(estimate_proportion(4, 5), estimate_proportion(0, 5)) == pytest.approx(0.0476, abs=1e-4)
    assert fisher_p_value(estimate_proportion(4, 5), estimate_proportion(1, 5)) > 0.05


def test_arms_that_have_not_run_do_not_differ():
    assert fisher_p_value(estimate_proportion(0, 0), estimate_proportion(3, 3)) == 1.0
    assert (estimate_proportion(0, 0).low, estimate_proportion(0, 0).high) == (0.0, 1.0)


def test_more_successes_than_seeds_are_refused():
    with pytest.raises(ValueError, match="count is 4 of 3; expected a count between 0 and 3"):
        estimate_proportion(4, 3)
