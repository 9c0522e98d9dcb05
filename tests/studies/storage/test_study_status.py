"""Where a study stands, from the files alone: made here as the driver and the trials make them."""

import io
import json
import math
import os
import time
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from lightning_modules.stored_files import dump_json
from studies.console import status_output
from studies.records.results import failed_result, result_to_json
from studies.settings import Settings
from studies.storage import status_files, study_status
from studies.storage.lease import acquire_lease
from studies.storage.manifest import StudyManifest
from studies.storage.study_status import TrialStatus, remaining_seconds
from studies.storage.trial_folder import TrialFolder
from studies.storage.trial_requests import Cancellation, write_cancellation
from tests.reports.records import registration


@pytest.fixture
def settings(tmp_path):
    return Settings.from_environment(tmp_path)


def row(arm="A", seed=0, **values):
    return TrialStatus(arm=arm, seed=seed, epochs=10, folder=f"{arm}-{seed}", **values)


def plan(settings, *planned, begins=True, study="depth", conditions="c0"):
    folder = settings.studies_folder / f"{study}-{conditions}"
    study_status.update_status(folder, study, "digits", planned, settings.trials_folder, is_new_start=begins)
    return folder


def progress(settings, folder, **values):
    told = {"epoch": 3, "epochs": 10, "validation_error": 12.5, "pace": 2.0, "node": "far", "attempts": 1}
    (settings.trials_folder / folder).mkdir(parents=True, exist_ok=True)
    status_files.write_progress(settings.trials_folder / folder, told | values)


def end(settings, folder, status="finished", error=4.0):
    trial = settings.trials_folder / folder
    trial.mkdir(parents=True, exist_ok=True)
    data = result_to_json(failed_result(folder, {}, "")) | {"status": status, "metrics": {"test_error": error}}
    (trial / "result.json").write_text(json.dumps(data | {"curves": {"seconds": [1.0, 3.0]}, "times": [1.0, 4.0]}))


def test_a_planned_trial_waits_runs_and_ends(settings):
    folder = plan(settings, (row(), "train"))
    assert study_status.read_status(folder, settings.trials_folder).trials[0].state == "waiting"
    lease = acquire_lease(settings.trials_folder / "A-0")
    progress(settings, "A-0", attempts=2)
    running = study_status.read_status(folder, settings.trials_folder).trials[0]
    assert (running.state, running.epoch, running.error, running.remaining_seconds) == ("running", 3, 12.5, 14.0)
    assert (running.node, running.num_attempts) == (lease.holder.host, 2)
    end(settings, "A-0")
    lease.release()
    ended = study_status.read_status(folder, settings.trials_folder).trials[0]
    assert (ended.state, ended.error, ended.epoch, ended.seconds_per_epoch) == ("finished", 4.0, 10, 2.0)


def test_a_trial_whose_process_is_gone_was_interrupted_and_a_running_study_comes_back_to_it(settings):
    folder = plan(settings, (row(), "train"))
    progress(settings, "A-0")
    found = study_status.read_status(folder, settings.trials_folder)
    assert (found.state, found.trials[0].state, found.trials[0].epoch) == ("ended", "interrupted", 3)
    data = study_status.status_to_json(found)
    assert (data["left_seconds"], data["arms"]["A"][0]["left_seconds"]) == (None, None)
    acquire_lease(folder)
    found = study_status.read_status(folder, settings.trials_folder)
    assert (found.state, found.trials[0].state) == ("running", "waiting")


def test_attempts_are_those_that_the_folder_logs_before_an_epoch_has_ended_too(settings):
    folder = plan(settings, (row(), "train"))
    progress(settings, "A-0", attempts=1)
    for holder in ("one", "another"):
        TrialFolder(settings.trials_folder / "A-0").start_attempt(holder)
    assert study_status.read_status(folder, settings.trials_folder).trials[0].num_attempts == 2


def test_a_study_whose_process_was_killed_is_told_from_one_that_ended(settings):
    folder = plan(settings, (row(), "train"))
    lease = acquire_lease(folder)
    assert (
        study_status.read_status(folder, settings.trials_folder).owner
        == f"process {os.getpid()} on {lease.holder.host}"
    )
    data = json.loads(lease.file.read_text())
    lease.file.write_bytes(dump_json(data | {"born": "0"}))  # as if this number had been another process's
    assert (
        study_status.read_status(folder, settings.trials_folder).description
        == "its process died; `ablate run` resumes it"
    )
    lease.file.unlink()
    assert study_status.read_status(folder, settings.trials_folder).state == "ended"


def test_a_result_from_before_the_plan_is_not_that_of_a_trial_to_be_trained_again(settings):
    end(settings, "A-0", status="failed")
    old = time.time() - 60
    os.utime(settings.trials_folder / "A-0" / "result.json", (old, old))
    folder = plan(settings, (row(), "train"))
    assert study_status.read_status(folder, settings.trials_folder).trials[0].state == "waiting"
    end(settings, "A-0")
    assert study_status.read_status(folder, settings.trials_folder).trials[0].state == "finished"


def test_trials_of_other_studies_are_told_from_own_ones(settings):
    end(settings, "A-0")
    end(settings, "A-1", status="non-finite")
    planned = ((row(), "reused"), (row(seed=1), "reused"), (row(seed=2), "reused"), (row(seed=3), "ended"))
    rows = study_status.read_status(plan(settings, *planned), settings.trials_folder).trials
    assert [each.state for each in rows] == ["reused", "non-finite", "reused", "finished"]
    assert math.isnan(rows[2].error)  # its folder is gone: the store knows it


def test_a_new_start_forgets_what_an_earlier_one_did_not_do(settings):
    plan(settings, (row(), "train"), (row(seed=1), "train"))
    end(settings, "A-0")
    folder = plan(settings, (row("B"), "train"))
    assert [(each.arm, each.state) for each in study_status.read_status(folder, settings.trials_folder).trials] == [
        ("A", "finished"),
        ("B", "waiting"),
    ]
    plan(settings, (row("C"), "train"), begins=False)  # its next stage forgets nothing
    assert len(study_status.read_status(folder, settings.trials_folder).trials) == 3


def test_the_study_that_was_planned_last_is_found(settings):
    first = plan(settings, (row(), "train"), conditions="c1")
    second = plan(settings, (row("B"), "train"), conditions="c2")
    plan(settings, (row(), "train"), study="lrn")
    os.utime(first / "board.json", (1, 1))
    os.utime(second / "board.json", (2, 2))
    assert study_status.find_status(settings, "depth").trials[0].arm == "B"
    assert study_status.find_status(settings, "depth", "cifar10") is None
    assert [folder.name for folder in study_status.list_status_folders(settings)] == ["lrn-c0", "depth-c2", "depth-c1"]


def test_a_board_of_another_version_or_half_a_file_is_passed_over(settings):
    folder = plan(settings, (row(), "train"))
    (folder / "board.json").write_text('{"schema": 99, "study": "depth"}')
    assert study_status.find_status(settings, "depth") is None
    (folder / "board.json").write_text("{")
    assert study_status.find_status(settings, "depth") is None


def test_time_left_follows_the_pace_of_each_group_and_how_many_run_at_once():
    quick = row("A", state="running", epoch=5, seconds_per_epoch=1.0)
    slow = row("B", state="running", epoch=0, seconds_per_epoch=3.0)
    waiting = row("B", seed=1)
    assert remaining_seconds([quick, slow, waiting]) == (5 * 1 + 10 * 3 + 10 * 3) / 2
    assert math.isnan(remaining_seconds([waiting]))
    assert remaining_seconds([row(state="finished", epoch=10)]) == 0


def test_time_left_counts_a_bundle_as_one_process():
    bundle = [row("A", seed, state="running", epoch=4, seconds_per_epoch=10.0, bundle_size=5) for seed in range(5)]
    waiting = [row("A", seed) for seed in range(5, 10)]
    assert remaining_seconds(bundle) == 6 * 10
    assert remaining_seconds([*bundle, *waiting]) == 6 * 10 + 10 * 10
    second_card = [row("A", seed, state="running", epoch=4, seconds_per_epoch=10.0, bundle_size=5) for seed in range(5)]
    all_trials = [*bundle, *second_card, *waiting]
    assert remaining_seconds(all_trials) == pytest.approx((2 * 6 * 10 + 10 * 10) / 2)


def test_time_left_of_bundles_that_wait_for_a_trial_alone():
    ended = [row("A", seed, state="finished", epoch=10, seconds_per_epoch=10.0, bundle_size=5) for seed in range(5)]
    alone = row("B", state="running", epoch=8, seconds_per_epoch=2.0)
    waiting = [row("A", seed) for seed in range(5, 10)]
    assert remaining_seconds([*ended, alone, *waiting]) == 2 * 2 + 10 * 10


def test_nobody_is_told_where_the_disk_is_full_and_the_trial_goes_on(tmp_path):
    status_files.write_progress(tmp_path / "gone", {"epoch": 1})
    assert not list(Path(tmp_path).iterdir())


def test_as_data_candidates_stand_apart_and_unknown_numbers_are_null(settings):
    candidate = TrialStatus(arm="A, candidate 0", group="A, rung 1", seed=9, epochs=5, folder="A-9", part="validation")
    folder = plan(settings, (row(), "train"), (candidate, "train"))
    progress(settings, "A-9", epoch=1, validation_error=math.inf)
    acquire_lease(settings.trials_folder / "A-9")
    data = json.loads(
        json.dumps(
            study_status.status_to_json(study_status.read_status(folder, settings.trials_folder)), allow_nan=False
        )
    )
    assert data["arms"]["A"]["0"]["left_seconds"] is None
    assert data["tuning"][0]["group"] == "A, rung 1"
    assert (data["tuning"][0]["state"], data["tuning"][0]["validation_error"]) == ("running", None)


def test_a_spool_leaves_the_board_what_it_reads(tmp_path):
    settings = Settings.from_environment(tmp_path)
    folder = plan(settings, (row(), "train"))
    TrialFolder(settings.trials_folder / "A-0").write_result(failed_result("A-0", {}, "Traceback: out of luck"))
    assert study_status.read_status(folder, settings.trials_folder).trials[0].state == "failed"


def test_a_cancelled_trial_is_no_progress(settings, capsys):
    folder = plan(settings, (row(), "train"), (row(seed=1), "train"))
    end(settings, "A-0")
    write_cancellation(folder, "A", Cancellation(arm="A", seed=1, reason="", user="ada"))  # its folder is A-1
    status_output.print_studies(settings, as_json=False)
    assert "1 of 1, 1 cancelled  complete" in capsys.readouterr().out
    status_output.follow_study(settings, "depth", None, watch=False, as_json=False)
    assert "10/10 epochs, 1/1 trials, 1 cancelled" in capsys.readouterr().out


def register(settings):
    folder = settings.studies_folder / "depth-c0"
    manifest = StudyManifest(
        registration=registration(("A", "B"), seeds=2), conditions="c0", tags={}, labels=np.zeros(4), entries=()
    )
    manifest.write(folder)
    return folder


def test_a_study_that_is_only_registered_has_not_begun(settings, capsys):
    register(settings)
    status_output.print_studies(settings, as_json=False)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "digits" in line]
    assert "0 of 4" in line
    assert "registered, not begun: `ablate run` begins it" in line
    assert status_output.follow_study(settings, "depth", None, watch=False, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert (told["state"], told["trials"], told["ended"]) == ("registered", 4, 0)
    assert not status_output.follow_study(settings, "depth", "cifar10", watch=False, as_json=True)
    plan(settings, (row(), "train"))
    assert status_output.follow_study(settings, "depth", None, watch=False, as_json=True)
    assert json.loads(capsys.readouterr().out)["trials"] == 1


def test_a_watched_study_that_fails_before_it_is_planned_is_watched_no_longer(settings, monkeypatch, capsys):
    folder = register(settings)
    driver = acquire_lease(folder)
    watched(settings, monkeypatch, driver.release)
    assert "registered, not begun" in capsys.readouterr().out


def watched(settings, monkeypatch, *acts):
    """`ablate status --watch`, while one thing after another happens, each as it looks away."""
    left = iter(acts)
    monkeypatch.setattr(status_output.time, "sleep", lambda _: next(left)())
    assert status_output.follow_study(settings, "depth", None, watch=True, as_json=False)
    assert next(left, None) is None


def test_a_watched_study_says_in_a_line_what_has_changed_until_it_ends(settings, monkeypatch, capsys):
    folder = plan(settings, (row(), "train"), (row(seed=1), "train"))
    study, trial = acquire_lease(folder), acquire_lease(settings.trials_folder / "A-0")

    def ends():
        end(settings, "A-0")
        trial.release()

    def is_over():
        end(settings, "A-1")
        study.release()

    watched(settings, monkeypatch, lambda: progress(settings, "A-0"), ends, is_over)
    said = [line.split(" ", 1)[-1].strip() for line in capsys.readouterr().out.splitlines()]
    assert said[:2] == ["1 running, 1 waiting", "1 finished, 1 waiting"]
    assert said[2].endswith("complete")


def test_on_a_terminal_a_watched_study_stays_in_place_and_its_end_is_left(settings, monkeypatch):
    folder = plan(settings, (row(), "train"))
    study = acquire_lease(folder)
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=80, height=20, markup=False, highlight=False)
    monkeypatch.setattr(status_output, "Console", lambda **_: terminal)

    def is_over():
        end(settings, "A-0")
        study.release()

    watched(settings, monkeypatch, lambda: progress(settings, "A-0"), is_over)
    assert "4.00 %" in screen.getvalue()
    assert "\x1b[" in screen.getvalue()
