"""Verdicts on tables of results: the same as a study's, and those of scipy where they compute the same."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import reports
from ablations import Helps, HelpsBy, Metric
from lightning_modules.specs.errors import InvalidValue
from reports.comparison.comparison import compare_arms
from reports.external.judgement import judge
from reports.external.results_columns import ResultsError
from reports.pages.gate_outcome import gate_judgement
from reports.pages.judgement import judgement_files
from tests.reports.records import HOSTILE, TEST_EXAMPLES, record


def to_frame(study):
    """The test errors of a study as a table of results."""
    rows = []
    for trial in study.trials:
        error = trial.result.metrics["test_error"] if trial.state == "finished" else np.nan
        rows.append({"arm": trial.arm, "seed": trial.seed, "test_error": error})
    return pd.DataFrame(rows)


def noisy(arms="AB", seeds=5, effect=1.0, seed=0):
    random = np.random.default_rng(seed)
    rows = []
    for number in range(seeds):
        shared = random.normal(0, 0.5)
        for index, arm in enumerate(arms):
            rows.append({"arm": arm, "seed": number, "error": 10 + shared - effect * index + random.normal(0, 0.2)})
    return pd.DataFrame(rows)


@pytest.mark.parametrize("states", [{}, {("B", 2): "non-finite"}, {("E", 0): "at chance", ("E", 1): "at chance"}])
@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
def test_a_table_is_judged_as_the_study_that_it_comes_from(states, seeds):
    study = record(seeds=seeds, states={key: state for key, state in states.items() if key[1] < seeds})
    comparison = compare_arms(study)
    errors = [claim for claim in study.registration.claims if set(claim.endpoints) == {"test_error"}]
    metric = Metric(name="test_error")
    judgement = judge(
        to_frame(study),
        baseline=study.registration.baseline,
        claims=[on_metric(claim, metric) for claim in errors],
        smallest_effect=study.registration.smallest_effect,
        unit="percent",
        resolution=100 / TEST_EXAMPLES,
    )
    words = {claim.claim: claim.word for claim in comparison.claims}
    assert [verdict.word for verdict in judgement.verdicts] == [words[claim] for claim in errors]
    found = {(item.over, item.arm): item for item in judgement.differences}
    assert set(found) == {(item.over, item.arm) for item in comparison.differences}
    for item in comparison.differences:
        contrast = found[item.over, item.arm]
        expected = [item.estimate.value, item.estimate.low, item.estimate.high, item.num_pairs]
        assert [contrast.estimate, contrast.low, contrast.high, contrast.num_pairs] == expected


def on_metric(claim, metric):
    from dataclasses import replace

    parts = {"parts": tuple(on_metric(part, metric) for part in claim.parts)} if hasattr(claim, "parts") else {}
    return replace(claim, endpoint=metric, **parts)


def test_two_arms_are_compared_by_the_paired_t_test():
    frame = noisy(seeds=8)
    (contrast,) = judge(frame, resolution=0).differences
    values = frame.pivot(index="arm", columns="seed", values="error").to_numpy()
    interval = stats.ttest_rel(values[0], values[1]).confidence_interval(0.95)
    assert (contrast.low, contrast.high) == pytest.approx((interval.low, interval.high), rel=1e-9)


def test_figures_come_back_in_the_unit_given():
    percent = noisy()
    fraction = percent.assign(error=percent["error"] / 100)
    for frame, scale in ((percent, 1), (fraction, 0.01)):
        (row,) = reports.judge(frame).to_frame().to_dict("records")
        assert row["change"] == pytest.approx(-1.0 * scale, abs=0.3 * scale)


def test_without_claims_every_arm_is_claimed_to_help_over_the_baseline():
    judgement = judge(noisy(arms="ABC"), baseline="B")
    assert [verdict.claim.sentence for verdict in judgement.verdicts] == [
        "A improves on B in error.",
        "C improves on B in error.",
    ]
    assert [verdict.word for verdict in judgement.verdicts] == ["contradicted", "supported"]


def test_nothing_is_equivalent_without_a_smallest_effect():
    frame = noisy(seeds=20, effect=0.0)
    assert judge(frame, smallest_effect=0.5).verdicts[0].word == "practically equivalent"
    without = judge(frame).verdicts[0]
    assert without.word == "inconclusive"
    assert "±0" not in without.reason
    with pytest.raises(ResultsError, match="needs a smallest effect of interest"):
        judge(frame, claims=["B does not help over A"])


def test_an_arm_that_lost_more_runs_is_not_found_better():
    frame = noisy(seeds=6, effect=1.0)
    frame.loc[(frame["arm"] == "B") & (frame["seed"] < 2), "error"] = np.nan
    (verdict,) = judge(frame).verdicts
    assert verdict.word == "inconclusive"
    assert "did not train" in verdict.finding


def test_the_seeds_it_takes_grow_with_the_noise_and_fall_with_the_effect():
    def seeds_needed(effect, spread):
        frame = noisy(seeds=6)
        mean = frame["error"].mean()
        return judge(frame.assign(error=mean + spread * (frame["error"] - mean)), smallest_effect=effect).seeds_needed

    assert seeds_needed(0.2, 1) > seeds_needed(0.4, 1)
    assert seeds_needed(0.4, 2) == seeds_needed(0.2, 1)


def test_the_page_escapes_whatever_an_arm_is_named():
    frame = noisy(arms=HOSTILE, seeds=3)
    files = judgement_files(judge(frame, source="<b>.csv", smallest_effect=0.1))
    page = files["index.html"].decode()
    assert "<script>alert" not in page
    assert "<b>.csv" not in page
    assert "\n=SUM" not in files["arms.csv"].decode()
    assert r"\_\{\}" in files["judgement.tex"].decode()
    assert set(files) >= {"judgement.md", "differences.csv", "figures/values.svg", "figures/changes.pdf"}


@pytest.mark.parametrize("seeds", [1, 2])
def test_few_seeds_have_a_page_of_their_own(seeds):
    judgement = judge(noisy(arms="ABC", seeds=seeds))
    assert judgement_files(judgement)["index.html"]
    if seeds == 1:
        assert {verdict.word for verdict in judgement.verdicts} == {"inconclusive"}
        assert "one seed: it takes two" in judgement.verdicts[0].finding


@pytest.mark.parametrize("name", ["best_test_acc", "test/max_accuracy", "minTestError"])
def test_the_best_test_value_of_each_run_gets_no_verdict_unless_it_was_chosen_by_other_data(name):
    frame = noisy().rename(columns={"error": name})
    judgement = judge(frame, higher_is_better=False)
    assert [verdict.word for verdict in judgement.verdicts] == ["inconclusive"]
    assert judgement.verdicts[0].reason.startswith("selected on test")
    assert [verdict.word for verdict in judge(frame, higher_is_better=False, chosen_without_test=True).verdicts] == [
        "supported"
    ]


@pytest.mark.parametrize("name", ["best_val_acc", "max_memory", "test_error"])
def test_another_name_is_no_reason_to_withhold_a_verdict(name):
    frame = noisy().rename(columns={"error": name})
    assert [verdict.word for verdict in judge(frame, higher_is_better=False).verdicts] == ["supported"]


def test_a_claim_on_another_endpoint_is_refused_in_a_line():
    with pytest.raises(ResultsError, match=r"is not about error; give it endpoint=.*name='error'"):
        judge(noisy(), claims=[Helps(arm="B", over="A")])


def test_a_report_replaces_an_earlier_one_and_nothing_else(tmp_path, monkeypatch):
    results, folder = reports.judge(noisy()), tmp_path / "report"
    assert results.write(folder) == results.write(folder)  # an earlier report
    kept = folder / "thesis.txt"
    kept.write_text("precious")
    with pytest.raises(InvalidValue, match=r"holds thesis\.txt, which the report would replace"):
        results.write(folder)
    assert kept.read_text() == "precious"
    kept.unlink()
    monkeypatch.chdir(folder)
    for inside in (folder, "."):
        with pytest.raises(InvalidValue, match="is the current folder or contains it"):
            results.write(inside)
    assert (folder / "index.html").exists()


def test_a_single_claim_needs_no_list():
    assert len(judge(noisy("ABC"), claims="B helps over A").verdicts) == 1


def test_no_number_of_seeds_is_planned_for_the_observed_difference():
    """Its power says no more than the p value does (Hoenig & Heisey 2001)."""
    judgement = judge(noisy(seeds=6))
    assert judgement.seeds_needed is None
    assert judgement.sensitivity[-1].endswith("depends on how small it may be: give a smallest effect.")
    assert not any("it takes" in text for text in judgement.sensitivity)


@pytest.mark.parametrize(
    ("name", "effect", "unit", "is_told"),
    [
        ("error", 0.3, "", True),
        ("error", 0.003, "", False),
        ("error", 0.3, "percent", False),
        ("loss", 0.3, "", False),
        ("loss", 0.3, "fraction", True),
    ],
)
def test_a_smallest_effect_that_may_be_in_percent_is_told(name, effect, unit, is_told):
    frame = noisy(seeds=4)
    frame = frame.assign(error=0.1 + frame["error"] / 1000).rename(columns={"error": name})
    judgement = judge(frame, smallest_effect=effect, unit=unit)
    assert any("if that was meant in percent, it is 0.003 here" in text for text in judgement.table.cautions) is is_told


def test_seeds_are_not_asked_for_where_a_claim_has_a_margin_or_none_would_tell():
    close = noisy(seeds=5, effect=0.1)
    with_margin = judge(close, claims=HelpsBy(arm="B", over="A", by=0.2, within=0.2, endpoint=Metric(name="error")))
    best = judge(close.rename(columns={"error": "best_test_error"}), unit="percent")
    for judgement in (with_margin, best):
        outcome = gate_judgement(judgement)
        assert outcome.word == "inconclusive"
        assert not any("How many seeds" in text for text in outcome.cautions)
    assert not any("How many seeds" in text for text in with_margin.sensitivity)


def test_a_resolution_that_is_given_takes_the_place_of_the_rounding_in_the_notes_as_well():
    rounded = noisy().round(1)
    (note,) = [text for text in judge(rounded, resolution=0.5).table.cautions if "narrower" in text]
    assert note == "As stated, the step between two values is 0.5: no interval is narrower than rounding makes it."
    assert not [text for text in judge(rounded, resolution=0).table.cautions if "rounded" in text]


def test_fractions_under_the_unit_percent_are_told():
    rows = [("A", 0, 0.91), ("B", 0, 0.93), ("A", 1, 0.92), ("B", 1, 0.94), ("A", 2, 0.91), ("B", 2, 0.94)]
    fractions = pd.DataFrame(rows, columns=["arm", "seed", "accuracy"])
    told = "nothing is converted, so a value of 0.94 is 0.94%. If the values are fractions, the unit is fraction."
    assert any(text.endswith(told) for text in judge(fractions, unit="percent", smallest_effect=0.5).table.cautions)
    percentages = fractions.assign(accuracy=100 * fractions.accuracy)
    for table, unit in ((fractions, "fraction"), (percentages, "percent")):
        assert not any("nothing is converted" in text for text in judge(table, unit=unit).table.cautions)


@pytest.mark.parametrize("resolution", [math.inf, math.nan, -1.0])
def test_a_resolution_that_is_none_is_refused(resolution):
    with pytest.raises(ResultsError, match="The resolution is"):
        judge(noisy(), resolution=resolution)
