import io
import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import reports
from lightning_modules.specs.errors import InvalidValue
from reports.comparison.comparison import compare_arms
from reports.pages import seed_plan
from reports.pages.notebook import Report
from reports.pages.seed_plan import SeedPlan
from reports.renderers.csv import arms_csv, trials_csv
from studies.design.budget import RunBudget
from tests.reports.records import HOSTILE, record


def report_of(study):
    return Report(study, compare_arms(study))


@pytest.fixture(scope="module")
def report():
    return report_of(record())


def test_every_object_is_one_line(report):
    comparison = report.comparison
    objects = (report, report.record, report.record.trials[0], comparison, comparison.claims[0], comparison.arms[0])
    for shown in map(repr, (*objects, comparison.differences[0], comparison.differences)):
        assert "\n" not in shown
        assert shown.startswith(("<", "(<"))
    assert repr(report) == "<Report depth under digits: Of 3 claims, 2 are supported and 1 is inconclusive.>"
    assert repr(report.record) == "<StudyRecord depth under digits: 20 of 20 trials finished>"
    assert repr(report.record.trials[0]) == "<RecordedTrial A, seed 0: finished, test error 9.12 %>"


def test_a_result_shows_its_metrics_and_not_its_curves(report):
    result = report.record.trials[0].result
    assert repr(result) == "<Result finished: test_error 9.12, validation_error 9.42, train_error 2.74>"
    view = result._repr_html_()
    assert "<td>test_error</td>" in view
    assert "gradient_norm" not in view


def test_the_view_has_verdicts_arms_and_the_figure(report):
    view = report._repr_html_()
    assert "Of 3 claims, 2 are supported and 1 is inconclusive." in view
    for claim in report.comparison.claims:
        assert claim.finding in view
    assert "<td>E</td>" in view
    assert view.count("<svg") == 2
    assert len(view) < 60_000


def test_no_text_of_a_study_reaches_a_notebook_as_markup():
    study = record(HOSTILE, 3)
    shown = report_of(study)
    for view in (shown, study, *shown.comparison.claims):
        assert "<script" not in view._repr_html_()


def test_a_study_without_results_has_a_view_and_empty_frames():
    report = report_of(record(trials=()))
    assert "there is nothing to compare yet" in report._repr_html_()
    assert list(report.trials().columns) == ["arm", "seed", "state"]
    assert list(report.curves().columns) == ["arm", "seed", "epoch"]
    assert report.arms()["test_error_percent"].isna().all()
    with pytest.raises(InvalidValue, match=r"no figure is named 'seeds'\. There are: "):
        report.plot()


def test_verdicts_are_a_frame(report):
    frame = report.verdicts()
    assert list(frame["verdict"]) == [claim.word for claim in report.comparison.claims]
    assert list(frame["endpoint"]) == ["test error"] * 3


def test_differences_are_a_frame_with_units_and_their_confidence(report):
    frame = report.differences()
    assert frame.attrs["units"]["error_reduction_points"] == "percentage points"
    assert frame.attrs["confidence_level"] == "95%"
    row = frame[(frame["over"] == "A") & (frame["arm"] == "B")].iloc[0]
    assert row["error_reduction_points"] == pytest.approx(1.161, abs=1e-3)
    assert row["low_points"] < row["error_reduction_points"] < row["high_points"]


@pytest.mark.parametrize(("frame_of", "csv_of"), [("arms", arms_csv), ("trials", trials_csv)])
def test_arms_and_trials_are_the_numbers_of_the_csv_files(report, frame_of, csv_of):
    frame = getattr(report, frame_of)()
    stored = pd.read_csv(io.StringIO(csv_of(report.comparison)))
    assert list(frame.columns) == list(stored.columns)
    for name in stored.dropna(axis="columns", how="all").select_dtypes("number"):
        assert np.allclose(frame[name].astype(float), stored[name], rtol=1e-7, equal_nan=True), name


def test_every_number_with_a_unit_names_it(report):
    assert report.trials().attrs["units"]["test_error"] == "percent"
    assert report.trials().attrs["units"]["test_loss"] == "nats"
    assert report.arms().attrs["units"]["peak_memory_bytes"] == "bytes"
    assert report.curves().attrs["units"] == {
        "seconds": "seconds",
        "train_loss": "nats",
        "validation_loss": "nats",
        "train_error": "percent",
        "validation_error": "percent",
    }


def test_curves_have_a_row_per_epoch_and_layers_on_request(report):
    frame = report.curves()
    trial = report.record.trials[0]
    own = frame[(frame["arm"] == trial.arm) & (frame["seed"] == trial.seed)]
    assert list(own["epoch"]) == list(range(1, 31))
    assert np.allclose(own["train_loss"], trial.result.curves["train_loss"])
    assert not [name for name in frame if "/" in name]
    assert [name for name in report.curves(layers=True) if name.startswith("gradient_norm/")]


def test_missing_counts_are_missing_and_not_text(report):
    arms = report.arms()
    assert arms["pairs"].isna().tolist() == [True, False, False, False]
    assert arms["registered"].dropna().tolist() == [True, False, False]


def test_a_figure_is_drawn_by_its_name_or_by_that_of_a_panel(report):
    whole, panel = report.plot(), report.plot("differences")
    assert isinstance(whole, Figure)
    assert [len(figure.axes) for figure in (whole, panel)] == [2, 1]
    assert panel.axes[0].get_title(loc="left") == "Error reduction by the second arm, points"
    picture, metadata = panel._repr_png_()
    assert picture.startswith(b"\x89PNG")
    assert metadata["width"] > 300


def test_an_unknown_figure_is_refused_with_those_that_there_are(report):
    with pytest.raises(
        InvalidValue, match=r"no figure is named 'diferences'\. Did you mean 'differences'\? There are:"
    ):
        report.plot("diferences")
    assert set(report.plots) >= {"seeds", "differences", "learning", "costs"}


def test_a_judgement_has_a_view_a_figure_and_a_page(report, tmp_path):
    results = tmp_path / "results.csv"
    report.trials()[["arm", "seed", "test_error"]].to_csv(results, index=False)
    judgement = reports.judge(results, smallest_effect=0.3)
    assert repr(judgement) == "<JudgementReport Test_error of 4 arms in results.csv: All 3 claims are supported.>"
    assert judgement._repr_html_().count("<svg") == 2
    assert len(judgement.plot().axes) == 2
    assert judgement.write(tmp_path / "page").is_file()


def test_a_plan_is_one_line_a_view_and_a_frame(tmp_path):
    plan = reports.plan("lrn", spread=0.5, difference=0.5, runs=tmp_path)
    assert isinstance(plan, SeedPlan)
    assert repr(plan) == "<SeedPlan lrn under digits: 10 seeds for a true difference of 0.5 points>"
    assert "a true difference of 0.5 points" in plan._repr_html_()
    (row,) = plan.to_frame().to_dict("records")
    assert row["seeds"] == 10
    assert 0 < row["power_now"] < 1
    assert not math.isnan(row["added_trials"])
    assert list(tmp_path.iterdir()) == []


def test_a_price_is_that_of_the_budget_as_well(tmp_path, monkeypatch):
    monkeypatch.setattr(seed_plan, "estimate_trial", lambda *_: 1800.0)
    budget = RunBudget(max_gpu_hours=10)
    options = {"spread": 0.5, "gpus_per_trial": 1, "runs": tmp_path, "budget": budget}
    priced = reports.plan("lrn", price_per_gpu_hour=3.0, **options).data["budget"]
    assert priced["cost"] == pytest.approx(3 * priced["spending"]["gpu_hours"])
    assert 0 < priced["cost"] <= 30
    assert reports.plan("lrn", **options).data["budget"]["cost"] is None
