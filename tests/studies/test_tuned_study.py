"""A study with tuned recipes and one with looks, for real: Ray, MLflow on SQLite, digits; also killed in mid-tuning."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

import studies
from lightning_modules.values import InvalidValue
from reports.comparison import compare
from reports.compile import write
from studies import training
from studies.cli import main
from studies.declaring import extended
from studies.fits import Fit
from studies.machine import Machine
from studies.settings import Settings
from studies.spool import Spool
from studies.tracking import Store
from studies.tuning import Tuning
from tests.studies.conftest import ONE, SHORT

pytestmark = [pytest.mark.xdist_group("one tuned study"), pytest.mark.usefixtures("one_ray")]
ROOT = Path(studies.__file__).parent.parent
TUNING = Tuning(trials=4, pruning="halving", rungs=2)
ARMS = ("A", "A-LRN")


def run(runs, **keywords):
    news = []
    standard = {"seeds": (0, 1), "overrides": SHORT, "runs": runs, "resources": ONE, "quiet": True, "say": news.append}
    return studies.run("lrn", **standard | keywords), news


@pytest.fixture(scope="module")
def runs(tmp_path_factory, one_ray):
    return tmp_path_factory.mktemp("tuned")


@pytest.fixture(scope="module")
def record(runs):
    """`lrn`, two seeds, four candidates in two rungs."""
    return run(runs, tuning=TUNING)[0]


def spent(record):
    """What every arm's search trained, without the ids that differ from store to store."""
    fits = [replace(fit, run_id="", seconds=0.0, attempts=0) for fit in record.tuning.candidates]
    return sorted(fits, key=lambda fit: (fit.arm, fit.rung, fit.number, fit.seed))


def test_every_arm_is_given_the_same_trials_and_epochs(record):
    for arm in ARMS:
        fits = [fit for fit in spent(record) if fit.arm == arm]
        assert [(fit.rung, fit.epochs) for fit in fits] == [(0, 1)] * 4 + [(1, 2)] * 2
        assert {fit.seed for fit in fits} == {1_000_000}
    assert compare(record).tuned.budgets.refused == ()


def test_the_comparison_is_made_under_both_recipes_and_the_final_seeds(record):
    cells = {(trial.arm, trial.seed) for trial in record.trials}
    assert (
        cells == {(trial.arm, trial.seed) for trial in record.tuning.trials} == {(a, s) for a in ARMS for s in (0, 1)}
    )
    assert set(record.tuning.chosen) == set(ARMS)


def test_candidates_hang_below_their_arms_search_in_the_record(record, runs):
    client = Store(Settings.of(runs)).client
    experiment = client.get_experiment_by_name("lrn").experiment_id
    found = {}
    for child in client.search_runs([experiment], max_results=1000):
        found.setdefault(child.data.tags["kind"], []).append(child)
    assert {kind: len(several) for kind, several in found.items()} == {
        "study": 1, "search": 2, "candidate": 12, "fit": 8 - len(unchanged(record)) * 2,
    }  # fmt: skip
    searches = {each.info.run_id: each for each in found["search"]}
    assert {each.data.tags["mlflow.parentRunId"] for each in searches.values()} == {record.run_id}
    for candidate in found["candidate"]:
        assert searches[candidate.data.tags["mlflow.parentRunId"]].data.tags["arm"] == candidate.data.tags["search"]
        assert not [name for name in candidate.data.metrics if name.startswith("test_")]
    for search in searches.values():
        history = client.get_metric_history(search.info.run_id, "best_validation_error")
        assert [metric.step for metric in history] == [0, 1, 2, 3]


def unchanged(record):
    """Arms whose best candidate is the shared recipe: their fits are not trained twice."""
    return [arm for arm in ARMS if record.tuning.best[arm] == 0]


def test_a_second_run_tunes_nothing_and_counts_nothing_twice(record, runs):
    again, news = run(runs, tuning=TUNING)
    assert all("nothing to train" in line for line in news if "train" in line and "tuning" not in line)
    assert not any("trials to train" in line for line in news)
    assert spent(again) == spent(record)
    assert again.tuning.chosen == record.tuning.chosen


def test_a_study_without_tuning_is_another_run_that_takes_its_fits_over(record, runs):
    plain, news = run(runs)
    assert plain.run_id != record.run_id
    assert plain.tuning is None
    assert any("taken over from other studies" in line for line in news)
    assert not any("trials to train" in line for line in news)


def test_the_report_shows_both_answers(record, tmp_path):
    page = write(record, tmp_path).read_text(encoding="utf-8")
    for text in ("Tuned arm by arm", "Both answers", "The tuning ledger", "What the search has found"):
        assert text in page


def test_folders_of_candidates_are_freed_once_every_search_is_over_and_nothing_is_trained_again(record, copied):
    searches = Store(Settings.of(copied)).client.search_runs([record.experiment_id], "tags.kind = 'search'")
    told = {each.info.run_id: each.data.tags["found"] for each in searches}
    client, (one, *_) = Store(Settings.of(copied)).client, told
    client.delete_tag(one, "found")
    assert "nothing to free" in call("gc", "--runs", copied)
    client.set_tag(one, "found", told[one])
    assert "of a candidate whose search is over 12" in call("gc", "--runs", copied)
    call("gc", "--yes", "--runs", copied)
    kept = {folder.name for folder in (copied / "trials").iterdir()}
    assert len(kept) == 8 - len(unchanged(record)) * 2
    again, news = run(copied, tuning=TUNING)
    assert not any("trials to train" in line for line in news)
    assert spent(again) == spent(record)
    assert {folder.name for folder in (copied / "trials").iterdir()} == kept


# -- what a candidate sees ---------------------------------------------------------------------------------------------


def test_no_result_of_a_candidate_holds_anything_of_the_test_part(record, runs):
    kept = [Spool(file.parent).result() for file in (runs / "trials").glob("*/result.json")]
    known = {trial.result.fingerprint for trial in (*record.trials, *record.tuning.trials)}
    candidates = [result for result in kept if result.fingerprint not in known]
    assert len(candidates) == 12
    for result in candidates:
        assert result.predictions is None
        assert not [name for name in result.metrics if "test" in name]


def test_a_candidate_that_reads_the_test_part_fails(digits, small, tmp_path, monkeypatch):
    """The reverse of the test above: were the test part read while a recipe is chosen, the fit would be lost."""
    honest = training.evaluate
    monkeypatch.setattr(training, "evaluate", lambda *given, **named: honest(*given, **named | {"test": True}))
    candidate = Fit(arm="A", setup=replace(small, recipe=replace(small.recipe, epochs=1)), seed=1, candidate=0)
    lost = training.train(candidate, digits, tmp_path, digests={}, machine=Machine(device="cpu", threads=1))
    assert lost.status == "failed"
    assert "PermissionError: the test part is withheld from a fit that tunes" in lost.error


# -- faults ------------------------------------------------------------------------------------------------------------


def test_a_study_killed_in_mid_tuning_spends_no_trial_twice(record, tmp_path):
    line = [sys.executable, "-W", "ignore", "-m", "studies.cli", "run", "lrn", "--seeds", "1", "--tune", "4"]
    line += ["--max-concurrent", "1", "--pruning", "halving", "--rungs", "2", "--runs", str(tmp_path)]
    for path, value in SHORT.items():
        line += ["--set", f"{path}={value}"]
    process = subprocess.Popen(line, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 400
    while len(ended(tmp_path)) < 5 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = ended(tmp_path)
    assert 5 <= len(kept) < 14
    again, _ = run(tmp_path, tuning=TUNING, seeds=(0,))
    assert all(file.stat().st_mtime_ns == stamp for file, stamp in kept.items())
    assert compare(again).tuned.budgets.refused == ()
    same = [fit for fit in spent(record) if fit.rung == 0]
    found = [fit for fit in spent(again) if fit.rung == 0]
    assert [(fit.arm, fit.number, fit.error, fit.loss, fit.values) for fit in found] == [
        (fit.arm, fit.number, fit.error, fit.loss, fit.values) for fit in same
    ]


def ended(runs):
    return {file: file.stat().st_mtime_ns for file in (runs / "trials").glob("*/result.json")}


# -- more seeds --------------------------------------------------------------------------------------------------------


@pytest.fixture
def copied(record, runs, tmp_path):
    shutil.copytree(runs, tmp_path / "runs")
    return tmp_path / "runs"


def call(*arguments, code=0):
    shown = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert shown.exit_code == code, shown.output
    return " ".join(shown.output.split())


def test_extending_adds_the_same_seeds_to_every_arm_and_says_so(record, copied):
    store = Store(Settings.of(copied))
    newest = store.read("lrn")
    shown = call("extend", "lrn", "--seeds", "3", "--runs", copied)
    longer = store.read("lrn", run_id=newest.run_id)
    assert longer.registration.seeds == (0, 1, 2)
    assert {(trial.arm, trial.seed) for trial in longer.trials} == {(arm, seed) for arm in ARMS for seed in range(3)}
    assert "2 of 6 trials to train" in shown
    assert any("added 1 seed (2), when results could be seen" in caution for caution in compare(longer).cautions)


@pytest.mark.parametrize(
    ("fields", "seeds", "text"),
    [
        ({}, (0, 1), "has the seeds 0, 1 already; expected a larger number of them"),
        ({"looks": (2, 3)}, (0, 1, 2), "was registered with looks at 2, 3 seeds: it ends there"),
    ],
)
def test_what_cannot_be_extended_is_told(fields, seeds, text, record):
    with pytest.raises(InvalidValue, match=text):
        extended("lrn", replace(record.registration, **fields), seeds)


def test_a_study_whose_arms_have_changed_since_is_not_extended(record, copied):
    """What stands for a changed file here is another recipe under the same name."""
    from studies.declaring import declare
    from studies.resources import Resources
    from studies.running import Driver

    study = declare("lrn", seeds=(0, 1, 2), overrides={**SHORT, "recipe.momentum": 0.8})
    driver = Driver(study, Settings.of(copied), Resources(), print, goes_on=record.run_id)
    with pytest.raises(InvalidValue, match="is recorded under other conditions"):
        driver.run(quiet=True)
    assert Store(Settings.of(copied)).read("lrn", run_id=record.run_id).registration.seeds == (0, 1)


def test_a_sequential_study_goes_on_only_while_a_claim_is_open(copied):
    asked = []

    def unresolved(record):
        asked.append(record.registration.seeds)
        return ("A-LRN does not improve on A.",) if len(asked) < 2 else ()

    found, news = run(copied, seeds=None, looks=(2, 3, 5), unresolved=unresolved)
    assert asked == [(0, 1), (0, 1, 2)]
    assert found.registration.seeds == (0, 1, 2)
    assert {trial.seed for trial in found.trials} == {0, 1, 2}
    assert "look 1 of 3, after 2 seeds: 1 open, going on to 3 seeds (A-LRN does not improve on A.)" in news
    assert "look 2 of 3, after 3 seeds: every claim is resolved" in news
    assert compare(found).level == "98.3%"
    assert not any("when results could be seen" in caution for caution in compare(found).cautions)


def test_a_sequential_study_needs_somebody_who_says_what_is_resolved(tmp_path):
    with pytest.raises(InvalidValue, match=r"pass unresolved=reports\.unresolved"):
        run(tmp_path, seeds=None, looks=(2, 3))


def test_until_resolved_registers_its_looks(tmp_path):
    shown = json.loads(call("show", "lrn", "--looks", "3,5,10", "--json"))
    assert shown["looks"] == [3, 5, 10]
    listed = json.loads(call("run", "lrn", "--until-resolved", "--max-seeds", "6", "--dry-run", "--json"))
    assert {trial["seed"] for trial in listed["trials"]} >= {0, 1}


def test_a_stated_spread_is_planned_with():
    assert "SD of a paired difference 0.50 points, as stated" in call("plan", "lrn", "--spread", "0.5")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("run", "lrn", "--space", "recipe.learning_rate=0.1..1"), "go with --tune N"),
        (("run", "lrn", "--tune", "1"), "two candidates or more"),
        (("run", "lrn", "--tune", "4", "--space", "recipe.learning_rat=0.1..1"), "Did you mean"),
        (("run", "lrn", "--tune", "4", "--sampler", "tpe", "--pruning", "halving"), "Take the sampler random"),
        (("run", "lrn", "--tune", "4", "--tuning-seeds", "0,1"), "0"),
        (("run", "lrn", "--looks", "5,3"), "looks"),
        (("run", "lrn", "--looks", "a"), "no list of numbers of seeds"),
        (("run", "lrn", "--until-resolved"), "--until-resolved goes with --max-seeds N"),
        (("run", "lrn", "--until-resolved", "--max-seeds", "9", "--seeds", "3"), "neither --seeds nor --looks"),
        (("plan", "lrn"), "State one: --spread 0.4"),
        (("extend", "lrn"), "--seeds"),
    ],
)
def test_misuse_is_one_clear_line_and_writes_nothing(arguments, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert text in call(*arguments, code=2)
    assert list(tmp_path.iterdir()) == []
