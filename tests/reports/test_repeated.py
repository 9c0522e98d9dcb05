"""What a report says of trials that were begun more than once."""

from reports.conduct import repeated
from studies.records import TrialRecord


def trial(arm, seed, **keywords):
    return TrialRecord(arm=arm, seed=seed, run_id="", state="finished", result=None, **keywords)


def test_a_report_is_silent_about_trials_that_were_begun_once():
    assert repeated([trial("A", 0), trial("B", 1)]) == ""


def test_a_report_names_trials_that_were_begun_again_and_what_they_met():
    told = repeated([trial("A", 0), trial("B", 1, attempts=2), trial("B", 2, attempts=3, faults=("killed", "no room"))])
    assert told.startswith("Begun more than once, with the same seed")
    assert told.endswith("where it had one: B, seed 1 (2 times); B, seed 2 (3 times; killed; no room).")
