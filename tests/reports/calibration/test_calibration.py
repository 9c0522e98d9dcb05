"""Rates of a calibration, and their intervals."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from reports.calibration import sampling_plan
from reports.calibration.batched_verdicts import BatchedRule
from reports.calibration.calibration import calibrate_rule, make_rate
from reports.calibration.cases import Case
from reports.calibration.sampling_plan import Share
from reports.content.calibration import summarize_calibration
from reports.pages.calibration import calibration_files
from tests.reports.calibration.trainings import make_trainings

DOCS = Path(__file__).parents[3] / "docs"
NUM_SEEDS = (2, 3, 5)  # a quantile of every size takes most of the time


@pytest.fixture(scope="module")
def few_sizes():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampling_plan, "SEED_COUNTS", NUM_SEEDS)
        patch.setattr(sampling_plan, "EQUIVALENCE_SEED_COUNTS", (3, 8))
        yield


@pytest.fixture(scope="module")
def calibration(few_sizes):
    return calibrate_rule(make_trainings(14), num_studies=400, num_resamples=3)


def test_every_size_that_fits_is_measured_in_both_worlds(calibration):
    sizes = {(rate.case.num_arms, rate.case.num_seeds) for rate in calibration.rates if rate.case.world == "unpaired"}
    assert sizes == {(k, n) for k in range(2, 7) for n in NUM_SEEDS if k * n <= 14}
    paired = {rate.case.num_arms for rate in calibration.select_rates("wrong") if rate.case.world == "paired"}
    assert paired == {2, 3, 4}
    assert any("3 arms: 14 trainings of an arm are enough for at most 4" in text for text in calibration.left_out)
    assert any(rate.case.claims == "the study's own claims" for rate in calibration.rates)


def test_rates_are_percentages_within_their_intervals(calibration):
    for rate in calibration.rates:
        assert 0 <= rate.low <= rate.percent <= rate.high <= 100


def test_the_same_trainings_give_the_same_rates(calibration):
    assert calibrate_rule(make_trainings(14), num_studies=400, num_resamples=3).rates == calibration.rates


def test_an_interval_is_that_of_the_trainings_and_not_of_the_drawn_studies():
    case = Case(quantity="wrong", world="paired", claims="", num_arms=2, num_seeds=5)
    shares = np.random.default_rng(0).normal(0.05, 0.02, size=2000)
    resampled = [Share(value, 0.0) for value in shares]
    few, many = (make_rate(case, Share(0.05, 0.05 * 0.95 / number), resampled) for number in (1000, 10**9))
    assert many.high - many.percent == pytest.approx(1.96 * 2.0, rel=0.05)
    assert few.high > many.high
    # The sampling noise of a resample's few studies is no spread of the trainings.
    noisy = [Share(value, 0.02**2) for value in shares]
    assert make_rate(case, Share(0.05, 0.0), noisy).high < 5.9


@pytest.mark.slow
def test_with_equal_normal_noise_the_rule_keeps_its_level_and_its_power():
    found = calibrate_rule(make_trainings(300, equal=True), num_studies=3000, num_resamples=4)
    assert max(rate.percent for rate in found.select_rates("wrong")) < 6.5
    for rate in found.select_rates("found"):
        if not rate.case.arm:
            assert rate.percent == pytest.approx(80, abs=5)
    for rate in found.select_rates("wrong equivalence"):
        assert rate.percent < 6.5


def test_one_arm_has_the_unpaired_world_alone(few_sizes):
    found = calibrate_rule(make_trainings(12, arms=("E",)), num_studies=100, num_resamples=2)
    assert {rate.case.world for rate in found.rates} == {"unpaired"}
    assert found.paired_noise is None
    assert any("One arm was trained" in sentence for sentence in found.left_out)
    assert b"One arm was trained" in calibration_files(found)["index.html"]


def test_a_word_that_differs_from_the_report_s_stops_the_calibration(few_sizes, monkeypatch):
    monkeypatch.setattr(BatchedRule, "judge_study", lambda rule, _: ("contradicted",) * len(rule.claims))
    with pytest.raises(RuntimeError, match="Please report this as a bug"):
        sampling_plan.SamplingPlan(make_trainings()).check_words(np.random.default_rng(0))


def test_the_page_its_json_and_its_csv_tell_the_same_rates(calibration):
    files = calibration_files(calibration)
    found = json.loads(files["calibration.json"])
    assert len(found["rates"]) == len(calibration.rates)
    assert len(files["rates.csv"].decode().strip().splitlines()) == len(calibration.rates) + 1
    page = files["index.html"].decode()
    assert "Calibration on 14 trainings each of A, B, D and E" in page
    assert summarize_calibration(calibration).partition(".")[0] in page
    assert found["errors"]["A"][0] == pytest.approx(calibration.trainings.errors[0, 0], abs=1e-4)
    assert found["paired_noise"]["deviation"]["value"] > 0


def test_the_documentation_gets_the_measured_rates(calibration):
    specification = importlib.util.spec_from_file_location("calibration_docs", DOCS / "calibration.py")
    script = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(script)
    found = json.loads(calibration_files(calibration)["calibration.json"])
    block = script.measured_rates([found, found | {"study": "pooling"}])
    titles = [line for line in block.splitlines() if line.startswith("#### ")]
    assert titles[0] == (
        "#### [`depth` under `digits`](../results/calibration-depth-digits.md): 14 trainings each of A, B, D and E"
    )
    assert titles[1].startswith("#### [`pooling` under `digits`](../results/calibration-pooling-digits.md)")
    assert block.count(summarize_calibration(calibration)) == 2
    assert "| unpaired, A: each arm improves on the first | " in block
    assert "- Correlation of two arms over seeds: " in block
    page = script.replace_block((DOCS / "explanation" / "statistics.md").read_text(encoding="utf-8"), block)
    assert block in page
    assert page.count(script.END) == 1
    with pytest.raises(ValueError, match="the page has no lines"):
        script.replace_block("nothing", block)
