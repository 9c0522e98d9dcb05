import numpy as np
import pytest
from scipy import integrate, optimize, special, stats

from reports.statistics import critical_value


def many_to_one(comparisons):
    return np.full((comparisons, comparisons), 0.5) + 0.5 * np.eye(comparisons)


def dunnett_by_two_integrals(comparisons, degrees_of_freedom, two_sided):
    """An independent road: the product form of Dunnett (1955), integrated over the common normal and over chi."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(101)
    weights = weights / weights.sum()

    def given_scale(scale, value):
        upper = special.ndtr(np.sqrt(2) * value * scale + nodes)
        inside = upper - special.ndtr(-np.sqrt(2) * value * scale + nodes) if two_sided else upper
        return float(weights @ inside**comparisons)

    def coverage(value):
        density = stats.chi(degrees_of_freedom, scale=1 / np.sqrt(degrees_of_freedom)).pdf
        return integrate.quad(lambda scale: density(scale) * given_scale(scale, value), 0, 4, limit=200)[0]

    return optimize.brentq(lambda value: coverage(value) - 0.95, 1, 8, xtol=1e-6)


def test_one_contrast_gets_students_t():
    assert critical_value([[1.0]], 4) == pytest.approx(stats.t.ppf(0.975, 4), rel=1e-12)
    assert critical_value([[1.0]], 4, two_sided=False) == pytest.approx(stats.t.ppf(0.95, 4), rel=1e-12)


@pytest.mark.parametrize(
    ("comparisons", "degrees_of_freedom", "two_sided", "published"),
    [
        (3, 20, True, 2.54),  # Dunnett's tables, alpha 0.05
        (3, 20, False, 2.19),
        (5, 10, True, 2.99),
        (5, 20, True, 2.73),
        (9, 18, True, 2.98),
    ],
)
def test_many_to_one_gets_the_published_value_of_dunnett(comparisons, degrees_of_freedom, two_sided, published):
    value = critical_value(many_to_one(comparisons), degrees_of_freedom, two_sided=two_sided)
    assert value == pytest.approx(published, abs=0.0065)


@pytest.mark.parametrize("two_sided", [True, False])
@pytest.mark.parametrize(("comparisons", "degrees_of_freedom"), [(2, 4), (5, 10), (9, 81)])
def test_the_value_agrees_with_dunnetts_double_integral_to_a_thousandth(comparisons, degrees_of_freedom, two_sided):
    expected = dunnett_by_two_integrals(comparisons, degrees_of_freedom, two_sided)
    found = critical_value(many_to_one(comparisons), degrees_of_freedom, two_sided=two_sided)
    assert found == pytest.approx(expected, abs=1e-3)


def test_a_rank_deficient_family_covers_what_it_says():
    rows = np.array([[1, -1, 0, 0], [0, 1, -1, 0], [0, 0, 1, -1], [1, 0, -1, 0], [1, 0, 0, -1]]) / np.sqrt(2)
    value = critical_value(rows @ rows.T, 9)
    random = np.random.default_rng(3)
    normal, scale = random.normal(size=(200_000, 4)), np.sqrt(random.chisquare(9, 200_000) / 9)
    covered = np.mean(np.abs(normal @ rows.T).max(axis=1) / scale <= value)
    assert covered == pytest.approx(0.95, abs=0.002)


def test_contrasts_that_repeat_each_other_cost_nothing():
    assert critical_value(np.ones((4, 4)), 6) == pytest.approx(stats.t.ppf(0.975, 6), rel=1e-9)


def test_one_sided_bounds_of_a_contrast_and_its_reverse_are_a_two_sided_interval():
    opposite = [[1.0, -1.0], [-1.0, 1.0]]
    assert critical_value(opposite, 6, two_sided=False) == pytest.approx(stats.t.ppf(0.975, 6), rel=1e-9)


def test_the_value_lies_between_student_and_bonferroni():
    value = critical_value(np.eye(4), 8)
    assert stats.t.ppf(0.975, 8) < value < stats.t.ppf(1 - 0.025 / 4, 8)


def test_covariances_are_refused_with_the_remedy():
    with pytest.raises(ValueError, match="divide the covariances by both standard deviations"):
        critical_value([[2.0, 1.0], [1.0, 2.0]], 5)


def test_no_degrees_of_freedom_are_refused():
    with pytest.raises(ValueError, match="degrees_of_freedom is 0"):
        critical_value([[1.0]], 0)
