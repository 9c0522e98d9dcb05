import math

import numpy as np
import pandas as pd
import pytest
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from reports.statistics import crossed_interval


def test_the_variance_comes_from_the_two_way_analysis_of_variance():
    table = np.random.default_rng(0).integers(-1, 2, size=(3, 12)) + (np.arange(12) > 8)
    seed, image = np.indices(table.shape).reshape(2, -1)
    frame = pd.DataFrame({"y": table.ravel().astype(float), "seed": seed, "image": image})
    squares = anova_lm(ols("y ~ C(seed) + C(image)", frame).fit())["sum_sq"].to_numpy() / [2, 11, 22]
    found = crossed_interval(table)
    assert squares[1] > squares[2]
    assert found.estimate == pytest.approx(100 * table.mean())
    assert found.standard_error == pytest.approx(100 * math.sqrt((squares[0] + squares[1] - squares[2]) / 36))
    assert found.image_standard_error == pytest.approx(100 * math.sqrt((squares[1] - squares[2]) / 36))
    spread = squares[0] ** 2 / 2 + squares[1] ** 2 / 11 + squares[2] ** 2 / 22
    assert found.degrees_of_freedom == pytest.approx((squares[0] + squares[1] - squares[2]) ** 2 / spread)


def test_without_image_effects_it_is_the_t_interval_over_seeds():
    table = np.array([[1, -1, 0, 0], [-1, 1, 0, 1], [0, 0, 1, 0]])
    found, means = crossed_interval(table), table.mean(axis=1) * 100
    assert found.image_standard_error == 0
    assert found.standard_error == pytest.approx(means.std(ddof=1) / math.sqrt(3))
    assert found.degrees_of_freedom == pytest.approx(2)


def test_it_covers_the_population_where_images_differ_consistently():
    random, covered = np.random.default_rng(1), []
    for _ in range(300):
        gain = random.normal(0, 0.25, size=(1, 200)) + random.normal(0, 0.01, size=(5, 1))
        draws = random.random((5, 200))
        found = crossed_interval((draws < np.clip(gain, 0, 1)).astype(int) - (draws < np.clip(-gain, 0, 1)))
        covered.append(found.low <= 0 <= found.high)
    assert np.mean(covered) == pytest.approx(0.95, abs=0.035)


@pytest.mark.parametrize("shape", [(1, 50), (3, 1)])
def test_one_seed_or_one_image_gives_an_infinite_interval(shape):
    found = crossed_interval(np.ones(shape))
    assert (found.estimate, found.low, found.high) == (100.0, -math.inf, math.inf)


def test_networks_that_never_disagree_differ_by_exactly_nothing():
    found = crossed_interval(np.zeros((3, 10)))
    assert (found.low, found.high, found.standard_error) == (0, 0, 0)


def test_an_empty_table_is_refused():
    with pytest.raises(ValueError, match="expected seeds x examples"):
        crossed_interval(np.ones((3, 0)))
