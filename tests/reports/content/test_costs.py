"""Costs of arms: medians with ranges, and trials that ran beside something else. Made-up numbers."""

from dataclasses import replace

import pytest

from ablations import Helps
from reports.analysis.arms import CostSpread
from reports.comparison.comparison import compare_arms
from reports.content.costs import format_spread
from reports.figures.study import report_figures
from reports.renderers import csv as csv_tables
from reports.renderers import markdown
from tests.reports.records import record

SECONDS = {0: 10.5, 1: 9.8, 2: 9.9, 3: 11.7, 4: 120.9}  # one trial beside another process
OUTLIER = "A trial differs from the median by a factor of two or more in training time of A: as where another process"


def disturbed(**fields):
    """Five seeds of four arms, one of whose trials took twelve times as long as the others of its arm."""
    study = record(**fields)
    trials = []
    for trial in study.trials:
        seconds = SECONDS[trial.seed] if trial.arm == "A" else 20.0
        result = replace(trial.result, cost={**trial.result.cost, "train_seconds": seconds})
        trials.append(replace(trial, result=result))
    return replace(study, trials=tuple(trials))


def test_costs_are_medians_with_ranges_and_an_outlier_is_told():
    page = markdown.render_report(compare_arms(disturbed()), ())
    assert "| A | 10.5 (9.8 to 120.9) | 1,194 (1,188 to 1,200) |" in page
    assert "| B | 20.0 |" in page
    assert OUTLIER in page


def test_trials_that_are_alike_get_no_note():
    assert "differs from the median" not in markdown.render_report(compare_arms(record()), ())


def test_the_figure_of_error_against_cost_uses_medians():
    (costs,) = [figure for figure in report_figures(compare_arms(disturbed())) if figure.name == "costs"]
    (time,) = [panel for panel in costs.panels if panel.name == "cost-time"]
    assert "A 10.5," in time.alternative
    assert "time and memory are medians" in costs.caption


def test_the_table_of_arms_has_medians_and_ranges():
    header, baseline, *_ = csv_tables.arms_csv(compare_arms(disturbed())).splitlines()
    cells = dict(zip(header.split(","), baseline.split(","), strict=True))
    assert (cells["train_seconds"], cells["train_seconds_min"], cells["train_seconds_max"]) == ("10.5", "9.8", "120.9")


def test_a_claim_on_time_says_which_arm_has_an_outlier():
    claim = Helps(arm="A", over="B", endpoint="time")
    (judged,) = compare_arms(disturbed(claims=(claim,))).claims
    assert any("a trial of A differs from the arm's median training time" in note for note in judged.notes)


@pytest.mark.parametrize(
    ("values", "has_outlier"),
    [
        ((10.0, 19.0), False),
        ((10.0, 20.0), True),
        ((10.0, 10.0, 20.0), True),
        ((5.0, 10.0, 10.0), True),  # a throughput falls where time rises
        ((6.0, 10.0, 19.0), False),
        ((10.0,), False),
        ((0.0, 0.0), False),
        ((), False),
    ],
)
def test_an_outlier_differs_from_the_median_twofold(values, has_outlier):
    assert CostSpread.of_values(values).has_outlier is has_outlier


def test_one_value_and_none_have_no_range():
    assert format_spread(CostSpread.of_values([7.25]), 1) == ("7.2", "")
    assert format_spread(CostSpread.of_values([float("nan")]), 1) == ("–", "")
