"""The figures of `judge` are autorank's and scipy's where these compute the same: means, deviations, a paired test."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from reports.external.judgement import change_interval, judge
from reports.pages.gate_outcome import gate_judgement

FIGURES = json.loads(Path(__file__).with_name("autorank.json").read_text(encoding="utf-8"))
CASES = {case["name"]: case for case in FIGURES["cases"]}
PAIRS = [name for name, case in CASES.items() if len(case["values"]) == 2]


def judged(case):
    rows = []
    for arm, values in case["values"].items():
        rows += [{"arm": arm, "seed": seed, "error": value} for seed, value in enumerate(values)]
    return judge(pd.DataFrame(rows), resolution=0.0)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_means_and_deviations_are_autoranks(case):
    arms = judged(case).arms
    assert [arm.mean.mean for arm in arms] == pytest.approx(case["autorank"]["mean"], rel=1e-12)
    assert [arm.mean.standard_deviation for arm in arms] == pytest.approx(
        case["autorank"]["standard_deviation"], rel=1e-12
    )


@pytest.mark.parametrize(
    "case", [case for case in CASES.values() if len(case["values"]) == 2], ids=lambda case: case["name"]
)
def test_the_difference_of_two_arms_is_that_of_autoranks_paired_test(case):
    judgement = judged(case)
    (difference,) = judgement.differences
    change, low, high = change_interval(difference, higher_is_better=False)
    assert (low, high) == pytest.approx(tuple(case["scipy"]["interval_of_a_and_b"]), rel=1e-9)
    freedom = difference.num_pairs - 1
    statistic = change / ((high - low) / 2 / stats.t.ppf(0.975, freedom))
    p_value = 2 * stats.t.sf(abs(statistic), freedom)
    assert case["autorank"]["test"] == "ttest"
    assert p_value == pytest.approx(case["autorank"]["p_value"], rel=1e-9)
    # autorank says that two arms differ; the gate says in which direction, as the claim has one.
    is_significant = case["autorank"]["p_value"] < 0.05
    decided = {True: "supported", False: "contradicted"}[bool(np.less(change, 0))]
    assert gate_judgement(judgement).word == (decided if is_significant else "inconclusive")
