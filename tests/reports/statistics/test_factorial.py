import numpy as np
import pytest

from reports.statistics import estimate_combinations, estimate_effects

SQUARE = [["A", "B"], ["C", "D"]]


def table(means, seeds=5):
    noise = np.random.default_rng(2).normal(0, 0.1, size=(len(means), seeds))
    return np.asarray(means, dtype=float)[:, None] + noise - noise.mean(axis=1, keepdims=True)


def square(means):
    return estimate_effects(table(means), "ABCD", SQUARE, ["3x3", "5x5"], ["with", "without"])


def test_a_square_has_two_main_effects_and_one_interaction():
    assert [(each.kind, each.levels) for each in square((10, 9, 8, 5))] == [
        ("rows", ("5x5",)),
        ("columns", ("without",)),
        ("interaction", ("5x5", "without")),
    ]


def test_effects_are_positive_where_the_endpoint_falls():
    """Rows: mean of 10, 9 minus mean of 8, 5; columns: 10, 8 minus 9, 5; interaction: a gain of 3 against one of 1."""
    assert [each.estimate for each in square((10, 9, 8, 5))] == pytest.approx([3.0, 2.0, 2.0])


def test_additive_factors_do_not_interact():
    _, _, interaction = square((10, 9, 8, 7))
    assert interaction.low < 0 < interaction.high


def test_an_interaction_has_twice_the_variance_of_a_difference():
    values = np.random.default_rng(3).normal(size=(4, 200))
    difference = estimate_combinations(values, [[1, -1, 0, 0]])[0].standard_error
    interaction = estimate_effects(values, "ABCD", SQUARE, ["r", "s"], ["x", "y"])[2].standard_error
    assert interaction / difference == pytest.approx(np.sqrt(2), rel=0.1)


def test_the_effects_are_one_family():
    rows = np.array([[1, 1, -1, -1], [1, -1, 1, -1], [-1, 1, 1, -1]]) * [[0.5], [0.5], [1]]
    family = estimate_combinations(table((10, 9, 8, 5)), rows)
    assert [(each.low, each.high) for each in square((10, 9, 8, 5))] == [(each.low, each.high) for each in family]


def test_three_levels_have_two_effects_and_two_interactions():
    layout = [["A", "B", "C"], ["D", "E", "F"]]
    found = estimate_effects(table((10, 9, 8, 10, 9, 5)), "ABCDEF", layout, ["r", "s"], ["x", "y", "z"])
    assert [each.kind for each in found] == ["rows", "columns", "columns", "interaction", "interaction"]
    assert found[-1].estimate == pytest.approx(3.0)


def test_a_missing_cell_leaves_the_other_seeds():
    values = table((10, 9, 8, 5))
    values[3, 0] = np.nan
    found = estimate_effects(values, "ABCD", SQUARE, ["r", "s"], ["x", "y"])
    assert [each.num_pairs for each in found] == [4, 4, 4]


@pytest.mark.parametrize("layout", [[["A", "B"], ["C", "C"]], [["A", "B"], ["C", "X"]]])
def test_every_cell_is_an_arm_of_its_own(layout):
    with pytest.raises(ValueError, match="expected each once, out of: A, B, C, D"):
        estimate_effects(table((1, 2, 3, 4)), "ABCD", layout, ["r", "s"], ["x", "y"])


def test_a_layout_has_a_cell_for_every_level():
    with pytest.raises(ValueError, match="expected one cell per level"):
        estimate_effects(table((1, 2, 3, 4)), "ABCD", [["A", "B"], ["C"]], ["r", "s"], ["x", "y"])
