"""What a report says of trials that were started more than once."""

from reports.analysis.integrity import describe_restarts
from studies.records.study_record import RecordedTrial


def trial(arm, seed, **keywords):
    return RecordedTrial(arm=arm, seed=seed, run_id="", state="finished", result=None, **keywords)


def test_a_report_is_silent_about_trials_that_were_begun_once():
    assert describe_restarts([trial("A", 0), trial("B", 1)]) == ""


def test_a_report_names_trials_that_were_begun_again_and_what_they_met():
    told = describe_restarts(
        [trial("A", 0), trial("B", 1, num_attempts=2), trial("B", 2, num_attempts=3, faults=("killed", "no room"))]
    )
    assert told.startswith("Started more than once, with the same seed")
    assert told.endswith("where it had one: B, seed 1 (2 times); B, seed 2 (3 times; killed; no room).")
