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
from lightning_modules.specs.errors import InvalidValue
from reports.comparison.comparison import compare_arms
from reports.pages.study import write_report
from studies.cli.app import main
from studies.design.trial import Trial
from studies.design.tuning import TuningBudget
from studies.hardware import Machine
from studies.records.register import extend_study
from studies.settings import Settings
from studies.storage.manifest import read_manifest
from studies.storage.trial_folder import TrialFolder
from studies.tracking.store import open_store
from studies.training import network_training
from studies.training.train import train_trial
from tests.studies.conftest import ONE, SHORT

pytestmark = [pytest.mark.xdist_group("one tuned study"), pytest.mark.usefixtures("one_ray")]
ROOT = Path(studies.__file__).parent.parent
TUNING = TuningBudget(trials=4, pruning="halving", rungs=2)
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
    fits = [replace(fit, run_id="", seconds=0.0, num_attempts=0) for fit in record.tuning.candidates]
    return sorted(fits, key=lambda fit: (fit.arm, fit.rung, fit.number, fit.seed))


def test_every_arm_is_given_the_same_trials_and_epochs(record):
    for arm in ARMS:
        fits = [fit for fit in spent(record) if fit.arm == arm]
        assert [(fit.rung, fit.epochs) for fit in fits] == [(0, 1)] * 4 + [(1, 2)] * 2
        assert {fit.seed for fit in fits} == {1_000_000}
    assert compare_arms(record).tuned.tuning_summary.refusal_reasons == ()


def test_the_comparison_is_made_under_both_recipes_and_the_final_seeds(record):
    cells = {(trial.arm, trial.seed) for trial in record.trials}
    assert (
        cells == {(trial.arm, trial.seed) for trial in record.tuning.trials} == {(a, s) for a in ARMS for s in (0, 1)}
    )
    assert set(record.tuning.best_values) == set(ARMS)


def test_candidates_hang_below_their_arms_search_in_the_record(record, runs):
    client = open_store(Settings.from_environment(runs)).runs.client
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
    return [arm for arm in ARMS if record.tuning.best_candidates[arm] == 0]


def test_a_second_run_tunes_nothing_and_counts_nothing_twice(record, runs):
    again, news = run(runs, tuning=TUNING)
    assert all("nothing to train" in line for line in news if "train" in line and "tuning" not in line)
    assert not any("trials to train" in line for line in news)
    assert spent(again) == spent(record)
    assert again.tuning.best_values == record.tuning.best_values


def test_a_study_without_tuning_is_another_run_that_takes_its_fits_over(record, runs):
    plain, news = run(runs)
    assert plain.run_id != record.run_id
    assert plain.tuning is None
    assert any("reused from earlier trainings" in line for line in news)
    assert not any("trials to train" in line for line in news)


def test_the_report_shows_both_answers(record, tmp_path):
    page = write_report(compare_arms(record), tmp_path).read_text(encoding="utf-8")
    for text in (
        "Tuning by arm",
        "Results under the shared recipe and with per-arm tuning",
        "Tuning budget",
        "Validation error over the search",
    ):
        assert text in page


def test_folders_of_candidates_are_freed_once_every_search_is_over_and_nothing_is_trained_again(record, copied):
    searches = open_store(Settings.from_environment(copied)).runs.client.search_runs(
        [record.experiment_id], "tags.kind = 'search'"
    )
    told = {each.info.run_id: each.data.tags["found"] for each in searches}
    client, (one, *_) = open_store(Settings.from_environment(copied)).runs.client, told
    client.delete_tag(one, "found")
    assert "nothing to free" in call("gc", "--runs", copied)
    client.set_tag(one, "found", told[one])
    assert "candidate of a finished search 12" in call("gc", "--runs", copied)
    call("gc", "--yes", "--runs", copied)
    kept = {folder.name for folder in (copied / "trials").iterdir()}
    assert len(kept) == 8 - len(unchanged(record)) * 2
    again, news = run(copied, tuning=TUNING)
    assert not any("trials to train" in line for line in news)
    assert spent(again) == spent(record)
    assert {folder.name for folder in (copied / "trials").iterdir()} == kept


def test_a_candidate_without_a_result_is_of_a_search_that_goes_on(copied):
    """As where the code has changed, and the search that it makes again is interrupted."""
    plans = map(read_manifest, (copied / "studies").iterdir())
    (plan,) = [plan for plan in plans if plan.candidate_folders]
    (copied / "trials" / plan.candidate_folders[0] / "result.json").unlink()
    assert "candidate of a finished search 11" in call("gc", "--runs", copied)


# -- what a candidate sees ---------------------------------------------------------------------------------------------


def test_no_result_of_a_candidate_holds_anything_of_the_test_part(record, runs):
    kept = [TrialFolder(file.parent).read_result() for file in (runs / "trials").glob("*/result.json")]
    known = {trial.result.fingerprint for trial in (*record.trials, *record.tuning.trials)}
    candidates = [result for result in kept if result.fingerprint not in known]
    assert len(candidates) == 12
    for result in candidates:
        assert result.predictions is None
        assert not [name for name in result.metrics if "test" in name]


def test_a_candidate_that_reads_the_test_part_fails(digits, small, tmp_path, monkeypatch):
    """The reverse of the test above: were the test part read while a recipe is chosen, the fit would be lost."""
    honest = network_training.evaluate_splits
    monkeypatch.setattr(
        network_training, "evaluate_splits", lambda *given, **named: honest(*given, **named | {"with_test": True})
    )
    candidate = Trial(arm="A", setup=replace(small, recipe=replace(small.recipe, epochs=1)), seed=1, candidate=0)
    lost = train_trial(candidate, digits, tmp_path, digests={}, machine=Machine(device="cpu", num_threads=1))
    assert lost.status == "failed"
    assert "PermissionError: the test split is withheld from trials that tune" in lost.error


# -- faults ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
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
    assert compare_arms(again).tuned.tuning_summary.refusal_reasons == ()
    same = [fit for fit in spent(record) if fit.rung == 0]
    found = [fit for fit in spent(again) if fit.rung == 0]
    assert [(fit.arm, fit.number, fit.validation_error, fit.validation_loss, fit.values) for fit in found] == [
        (fit.arm, fit.number, fit.validation_error, fit.validation_loss, fit.values) for fit in same
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


@pytest.mark.slow
def test_extending_adds_the_same_seeds_to_every_arm_and_says_so(record, copied):
    store = open_store(Settings.from_environment(copied))
    newest, _ = run(copied)  # the newest study of this copy is the one without tuning, whatever other tests ran before
    shown = call("extend", "lrn", "--seeds", "3", "--runs", copied)
    longer = store.reader.read_study("lrn", run_id=newest.run_id)
    assert longer.registration.seeds == (0, 1, 2)
    assert {(trial.arm, trial.seed) for trial in longer.trials} == {(arm, seed) for arm in ARMS for seed in range(3)}
    assert "2 of 6 trials to train" in shown
    assert any("added 1 seed (2), when results could be seen" in caution for caution in compare_arms(longer).cautions)


@pytest.mark.parametrize(
    ("fields", "seeds", "text"),
    [
        ({}, (0, 1), "has the seeds 0, 1 already; expected a larger number of them"),
        ({"looks": (2, 3)}, (0, 1, 2), "was registered with interim analyses after 2, 3 seeds, and cannot be extended"),
    ],
)
def test_what_cannot_be_extended_is_told(fields, seeds, text, record):
    with pytest.raises(InvalidValue, match=text):
        extend_study("lrn", replace(record.registration, **fields), seeds)


def test_an_extension_that_was_interrupted_goes_on_by_the_same_command(record):
    planned = replace(record.registration, seeds=(0, 1, 2, 3))
    interrupted = replace(record, registration=planned)
    assert interrupted.open_seeds == (2, 3)
    assert replace(record, trials=record.trials[1:]).open_seeds == (record.trials[0].seed,)
    assert extend_study("lrn", planned, (0, 1, 2, 3), interrupted.open_seeds).seeds == (0, 1, 2, 3)
    with pytest.raises(InvalidValue, match=r"To train what is left under seeds 2 and 3, name these\."):
        extend_study("lrn", planned, (0, 1), interrupted.open_seeds)


def test_a_study_whose_arms_have_changed_since_is_not_extended(record, copied):
    """What stands for a changed file here is another recipe under the same name."""
    from studies.design.declare import declare
    from studies.execution.resources import Resources
    from studies.runner.context import prepare_study
    from studies.runner.driver import run_study

    study = declare("lrn", seeds=(0, 1, 2), overrides={**SHORT, "recipe.momentum": 0.8})
    context = prepare_study(study, Settings.from_environment(copied), Resources(), print)
    with pytest.raises(InvalidValue, match="is recorded under other conditions"):
        run_study(context, quiet=True, resumed_run=record.run_id)
    reader = open_store(Settings.from_environment(copied)).reader
    assert reader.read_study("lrn", run_id=record.run_id).registration.seeds == (0, 1)


@pytest.mark.slow
def test_a_sequential_study_goes_on_only_while_a_claim_is_open(copied):
    asked = []

    def unresolved(record):
        asked.append(record.registration.seeds)
        return ("A-LRN does not improve on A.",) if len(asked) < 2 else ()

    found, news = run(copied, seeds=None, looks=(2, 3, 5), unresolved=unresolved)
    assert asked == [(0, 1), (0, 1, 2)]
    assert found.registration.seeds == (0, 1, 2)
    assert {trial.seed for trial in found.trials} == {0, 1, 2}
    first = "interim analysis 1 of 3, after 2 seeds"
    assert f"{first}: 1 open, continuing to 3 seeds (A-LRN does not improve on A.)" in news
    assert "interim analysis 2 of 3, after 3 seeds: every claim is resolved" in news
    assert compare_arms(found).confidence_level == "98.3%"
    assert not any("when results could be seen" in caution for caution in compare_arms(found).cautions)


@pytest.mark.slow
def test_without_reuse_a_later_stage_trains_its_own_seeds_alone(tmp_path):
    open_claims = [("A-LRN does not improve on A.",), ()]
    found, news = run(tmp_path, seeds=None, looks=(2, 3, 4), unresolved=lambda _: open_claims.pop(0), reuse="none")
    assert found.registration.seeds == (0, 1, 2)
    assert [line for line in news if "to train" in line] == ["4 of 4 trials to train", "2 of 6 trials to train"]
    assert [trial.num_attempts for trial in found.trials] == [1] * 6


def test_a_sequential_study_needs_somebody_who_says_what_is_resolved(tmp_path):
    with pytest.raises(InvalidValue, match=r"pass unresolved=reports\.unresolved"):
        run(tmp_path, seeds=None, looks=(2, 3))


def test_until_resolved_registers_its_looks(tmp_path):
    shown = json.loads(call("show", "lrn", "--looks", "3,5,10", "--json"))
    assert shown["looks"] == [3, 5, 10]
    resolved = json.loads(call("show", "lrn", "--until-resolved", "--max-seeds", "10", "--json"))
    assert (resolved["looks"], resolved["trials"]) == (shown["looks"], shown["trials"])
    listed = json.loads(call("run", "lrn", "--until-resolved", "--max-seeds", "6", "--dry-run", "--json"))
    assert {trial["seed"] for trial in listed["trials"]} >= {0, 1}


def test_a_stated_spread_leaves_the_recorded_seeds_and_times(record, runs):
    settings = [word for path, value in SHORT.items() for word in ("--set", f"{path}={value}")]
    budget = ("--spread", "0.5", "--max-time", "10m", "--runs", runs)
    assert "beside the 2 recorded" in call("plan", "lrn", *settings, *budget)
    assert "recorded" not in call("plan", "lrn", *budget)  # of other settings


def test_a_stated_spread_is_planned_with():
    assert "SD of a paired difference 0.50 points, as stated" in call("plan", "lrn", "--spread", "0.5")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("run", "lrn", "--space", "recipe.learning_rate=0.1..1"), "need --tune N"),
        (("run", "lrn", "--tune", "1"), "two candidates or more"),
        (("run", "lrn", "--tune", "4", "--space", "recipe.learning_rat=0.1..1"), "Did you mean"),
        (("run", "lrn", "--tune", "4", "--sampler", "tpe", "--pruning", "halving"), "Choose the sampler random"),
        (("run", "lrn", "--tune", "4", "--tuning-seeds", "0,1"), "0"),
        (("run", "lrn", "--looks", "5,3"), "looks"),
        (("run", "lrn", "--looks", "a"), "is not a list of numbers of seeds"),
        (("run", "lrn", "--until-resolved"), "--until-resolved needs --max-seeds N"),
        (("show", "lrn", "--max-seeds", "5"), "--until-resolved needs --max-seeds N"),
        (("register", "lrn", "--until-resolved", "--max-seeds", "5", "--looks", "2,3"), "excludes --seeds and --looks"),
        (("run", "lrn", "--until-resolved", "--max-seeds", "9", "--seeds", "3"), "excludes --seeds and --looks"),
        (("plan", "lrn"), "State one: --spread 0.4"),
        (("extend", "lrn"), "--seeds"),
    ],
)
def test_misuse_is_one_clear_line_and_writes_nothing(arguments, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert text in call(*arguments, code=2)
    assert list(tmp_path.iterdir()) == []
