"""Costs of trials that trained at once in one process: ten minutes of a GPU are ten GPU minutes, not fifty."""

from dataclasses import replace

import pytest

from reports.analysis.endpoints import endpoint_values, read_cost
from reports.comparison.comparison import compare_arms
from reports.content.costs import costs_table
from reports.renderers import markdown
from reports.renderers.csv import arm_rows, trial_rows
from tests.reports.records import record

ARMS = ("A", "B")
COST = {
    "train_seconds": 600.0,
    "images_per_second": 1_000.0,
    "peak_memory_bytes": 5.0 * 2**30,
    "inference_images_per_second": 2_000.0,
    "inference_peak_memory_bytes": 2.0**30,
}


def bundled_study(size=5, gpu_hours=None, **environment):
    """Two arms of five seeds; a bundle of five takes a GPU for ten minutes."""
    study = record(ARMS)
    entries = {"device": "cuda", **({"bundle_size": size} if size > 1 else {}), **environment}
    trials = [
        replace(trial, result=replace(trial.result, cost=COST, environment={**trial.result.environment, **entries}))
        for trial in study.trials
    ]
    starts = [replace(start, gpu_hours=gpu_hours) for start in study.starts]
    return replace(study, trials=tuple(trials), starts=tuple(starts))


def test_a_trial_has_its_share_of_a_bundles_time_and_memory_and_the_bundle_its_images():
    trial = bundled_study().trials[0]
    shares = {name: read_cost(trial, name) for name in COST}
    assert shares == {
        "train_seconds": 120.0,
        "images_per_second": 5_000.0,
        "peak_memory_bytes": 2.0**30,
        "inference_images_per_second": 10_000.0,
        "inference_peak_memory_bytes": 2.0**30 / 5,
    }
    alone = bundled_study(size=1).trials[0]
    assert {name: read_cost(alone, name) for name in COST} == COST


def test_the_time_of_all_trials_is_that_of_the_gpu():
    assert endpoint_values(bundled_study(), "time").sum() == pytest.approx(len(ARMS) * 600)


def test_the_table_of_costs_says_what_its_figures_are_of():
    table = costs_table(compare_arms(bundled_study()))
    assert "(bundle_size 5). Training and memory: a trial's share of its bundle's." in " ".join(table.notes)
    assert "bundle" not in " ".join(costs_table(compare_arms(bundled_study(size=1))).notes)


def test_the_report_gives_trials_per_gpu_hour_of_the_hours_that_bundles_held():
    text = markdown.render_report(compare_arms(bundled_study(gpu_hours=2 * 600 / 3600)), ())
    assert (
        "GPU hours: 0.333; trials that train at once in one process hold one GPU. 10 trials trained, 30.0 per GPU"
        in text
    )
    assert "GPU hours" not in markdown.render_report(compare_arms(bundled_study()), ())


def test_the_tables_of_arms_and_of_trials_give_the_same_share():
    comparison = compare_arms(bundled_study())
    arm, *_ = arm_rows(comparison)
    trials = [row for row in trial_rows(comparison) if row["arm"] == arm["arm"]]
    for name in ("train_seconds", "peak_memory_bytes", "images_per_second"):
        assert arm[name] == pytest.approx(sorted(row[name] for row in trials)[len(trials) // 2])
