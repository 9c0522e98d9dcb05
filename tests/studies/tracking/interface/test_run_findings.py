"""What a study found stands on its own run: metrics, verdicts and a note, which an edit of the user's survives."""

import math
from dataclasses import replace

import mlflow
import pytest

from reports.comparison.comparison import compare_arms
from reports.pages.run_findings import describe_findings
from studies.runner.findings import updates
from studies.runner.findings.updates import FindingsLog
from studies.tracking.interface.findings import NOTE_TAG, digest_trials, to_metric_name
from studies.tracking.interface.trial_values import training_seconds
from tests.reports import golden

RECORD = golden.read("healthy")


def test_metrics_are_those_of_the_report():
    found, comparison = describe_findings(RECORD), compare_arms(RECORD)
    for arm in comparison.arms:
        assert found.metrics[f"test_error/{arm.name}"] == arm.mean_error.value
        assert found.metrics[f"test_error_half_width/{arm.name}"] == arm.mean_error.half_width
        assert found.metrics[f"test_error_seeds/{arm.name}"] == 5
    # A difference is positive where the error rises.
    rise = found.metrics["test_error/E"] - found.metrics["test_error/A"]
    assert found.metrics["test_error_difference/E - A"] == pytest.approx(rise, abs=1e-9)
    assert found.num_ended == 20


def test_verdicts_are_tags_and_stand_in_the_note_with_question_and_table():
    found, comparison = describe_findings(RECORD), compare_arms(RECORD)
    assert found.tags["answer"] == comparison.answer
    assert [found.tags[f"verdict.{number}"] for number in range(1, len(comparison.claims) + 1)] == [
        claim.word for claim in comparison.claims
    ]
    assert RECORD.registration.question.rstrip("?") in found.note
    assert "| Arm |" in found.note


def test_a_number_that_does_not_exist_is_not_logged():
    one_seed = replace(RECORD, trials=tuple(trial for trial in RECORD.trials if trial.seed == 0))
    found = describe_findings(one_seed)
    assert math.isnan(found.metrics["test_error_half_width/A"])
    names = {metric.key for metric in found.to_metrics(0)}
    assert "test_error/A" in names
    assert "test_error_half_width/A" not in names


@pytest.mark.parametrize(("arm", "name"), [("one 7×7/2", "one 7_7_2"), ("β = 0.5", "β _ 0.5"), ("LRN", "LRN")])
def test_an_arm_of_any_name_has_a_metric(arm, name):
    assert to_metric_name("test_error", arm) == f"test_error/{name}"


@pytest.mark.parametrize("words", [".", "..", "...", "β" * 200 + " − " + "γ" * 200])
def test_a_name_that_mlflow_would_refuse_becomes_one_that_it_takes(words):
    name = to_metric_name("test_error_difference_half_width", words)
    assert mlflow.utils.validation._validate_metric_name(name) is None
    assert len(name) <= 250
    assert name != to_metric_name("test_error_difference_half_width", words + "γ")


def test_a_note_that_a_user_edited_is_kept():
    found = describe_findings(RECORD)
    first = found.to_tags({NOTE_TAG: RECORD.registration.question}, "The report is there.")
    assert first[NOTE_TAG].endswith("The report is there.\n")
    again = found.to_tags(first, "The report is here.")
    assert again[NOTE_TAG].endswith("The report is here.\n")
    assert NOTE_TAG not in found.to_tags({**again, NOTE_TAG: "my own words"}, "The report is here.")


def test_a_study_trained_while_one_of_its_trials_did():
    (trial, other) = (replace(RECORD.trials[index].result, times=(), curves={}) for index in (0, 1))
    first = replace(trial, times=(10.0, 20.0), curves={"seconds": (10.0, 10.0)})
    overlapping = replace(other, times=(25.0,), curves={"seconds": (10.0,)})
    next_day = replace(other, times=(90_010.0,), curves={"seconds": (10.0,)})
    assert training_seconds([next_day, overlapping, first]) == 35.0
    assert training_seconds([trial]) == 0.0


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(updates, "time", clock)
    return clock


def log_of(written, said, find=describe_findings):
    begun = replace(RECORD, trials=RECORD.trials[:2])
    return FindingsLog(find, lambda: begun, written.append, said.append)


def test_findings_are_logged_seldom_while_trials_end(clock):
    written, said = [], []

    def find_slowly(record):
        clock.now += 2.0
        return describe_findings(record)

    log = log_of(written, said, find_slowly)
    log.add_trial(RECORD.trials[2])
    assert not written  # half a minute has not passed
    clock.now = 31.0
    log.add_trial(RECORD.trials[3])
    assert [found.num_ended for found in written] == [2]  # as the store has it, which includes what was just logged
    clock.now = 200.0
    log.add_trial(RECORD.trials[4])
    assert len(written) == 1  # two seconds of work are due every 200
    clock.now = 240.0
    log.add_trial(RECORD.trials[5])
    assert [found.num_ended for found in written] == [2, 4]
    assert not said


def test_what_the_run_bears_already_is_not_worked_out_again(clock):
    written = []
    log = log_of(written, [])
    log.log_final(RECORD, digest_trials(RECORD.trials))
    assert not written
    log.log_final(RECORD, digest_trials(RECORD.trials[1:]))
    assert len(written) == 1


def test_a_fault_of_the_statistics_ends_no_study(clock):
    written, said = [], []

    def fail(record):
        raise ZeroDivisionError("of what")

    log = log_of(written, said, fail)
    clock.now = 31.0
    log.add_trial(RECORD.trials[2])
    log.add_trial(RECORD.trials[3])
    assert said == ["what was found could not be logged to the study's run (ZeroDivisionError: of what)"]
    assert not written


@pytest.mark.slow
@pytest.mark.xdist_group("one written study")
def test_a_recorded_study_bears_what_it_found_and_lasts_as_long_as_its_training(written):
    store = written.store
    record = store.reader.read_study("depth", run_id=written.run_id)
    store.writer.log_findings(written.run_id, describe_findings(record))
    run = written.run
    assert run.data.metrics["test_error/E"] == describe_findings(record).metrics["test_error/E"]
    assert run.data.tags["findings.trials"] == digest_trials(record.trials)
    assert "ablate report depth" in run.data.tags[NOTE_TAG]
    seconds = training_seconds(trial.result for trial in record.trials)
    assert run.info.end_time - run.info.start_time == pytest.approx(1000 * seconds, abs=1)


@pytest.mark.slow
@pytest.mark.xdist_group("one written study")
@pytest.mark.parametrize("trial", [("E", 1), None])
def test_every_run_names_its_data_by_what_they_were_used_for(written, trial):
    inputs = (written.trial(*trial) if trial else written.run).inputs.dataset_inputs
    used_for = {item.dataset.name: item.tags[0].value for item in inputs}
    assert used_for == {"digits/train": "train", "digits/validation": "validation", "digits/test": "test"}
    assert all("load_digits" in item.dataset.source for item in inputs)
