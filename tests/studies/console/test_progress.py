"""What a person sees while a study runs: one line per trial that lasts, and a screen for any number of them."""

import io
import sys
from types import SimpleNamespace

import pytest
from rich.console import Console

from studies.console import notebook_progress
from studies.console.progress import StudyProgress
from studies.console.study_view import (
    ASCII_SYMBOLS,
    MAX_GROUPS,
    MAX_RUNNING,
    STATE_SYMBOLS,
    render_study,
    state_symbols,
)
from studies.storage.study_status import TrialStatus

EPOCH = {"epoch": 0.0, "validation_error": 12.345, "seconds": 2.0}


def shown(renderable, width=100):
    console = Console(file=io.StringIO(), width=width)
    console.print(renderable)
    return console.file.getvalue()


def row(arm="A", seed=0, **values):
    return TrialStatus(arm=arm, seed=seed, epochs=10, folder=f"{arm}-{seed}", **values)


def test_lasting_lines_are_never_wrapped():
    console = Console(file=io.StringIO(), width=40)
    name = "a rather long name of an arm that takes much room"
    view = StudyProgress([row(name)], 1, console)
    view.start_trial(f"{name}-0")
    view.print_message("a worker died, and its trial is tried again on another one")
    view.finish_trial(f"{name}-0", "finished", 4.0)
    note, line = console.file.getvalue().splitlines()
    assert note.endswith("on another one")
    assert line == f"[  1/1] {name}, seed 0: finished, test error 4.00 %, in 0 s"


def test_a_candidate_ends_with_its_validation_error_and_a_retried_trial_says_so():
    console = Console(file=io.StringIO(), width=80)
    view = StudyProgress([row("A, candidate 3", part="validation"), row("B")], 2, console)
    view.start_trial("A, candidate 3-0")
    view.finish_trial("A, candidate 3-0", "finished", 7.5)
    view.start_trial("B-0")
    view.start_trial("B-0")
    view.finish_trial("B-0", "failed", None)
    assert console.file.getvalue().splitlines() == [
        "[  1/2] A, candidate 3, seed 0: finished, validation error 7.50 %, in 0 s",
        "[  2/2] B, seed 0: failed (attempt 2) in 0 s",
    ]


def test_a_trial_that_never_had_a_worker_took_no_time():
    console = Console(file=io.StringIO(), width=80)
    StudyProgress([row()], 1, console).finish_trial("A-0", "failed", None)
    assert console.file.getvalue() == "[  1/1] A, seed 0: failed\n"


def test_a_running_trial_shows_epoch_error_time_left_and_attempt():
    view = StudyProgress([row(), row(seed=1)], 2, Console(file=io.StringIO()))
    view.start_trial("A-0")
    view.start_trial("A-0")
    view.log_epoch("A-0", EPOCH, "far-away")
    text = shown(view.render())
    line = next(line for line in text.splitlines() if line.startswith("A, seed 0"))
    assert line.split() == ["A,", "seed", "0", "running,", "attempt", "2", "1/10", "12.35", "%", "18", "s", "far-away"]
    assert "1/20 epochs, 0/2 trials about 38 s left" in text
    assert "▸·" in text


def test_a_start_that_only_waits_for_another_process_is_no_attempt():
    view = StudyProgress([row()], 1, Console(file=io.StringIO()))
    for _ in range(2):
        view.start_trial("A-0")
        view.wait_for_trial("A-0")
    view.start_trial("A-0")
    view.log_epoch("A-0", EPOCH)
    assert "attempt" not in shown(view.render())


def test_a_bundle_of_seeds_is_one_process_with_one_time():
    console = Console(file=io.StringIO(), width=80)
    view = StudyProgress([row(seed=seed) for seed in range(10)], 10, console)
    for seed in range(5):
        view.start_trial(f"A-{seed}", 5)
        view.log_epoch(f"A-{seed}", EPOCH)
    assert "5/100 epochs, 0/10 trials about 38 s left" in shown(view.render())  # 9 epochs, and 10 of the next bundle
    view.finish_trial("A-0", "finished", 4.0)
    assert console.file.getvalue() == "[  1/10] A, seed 0: finished, test error 4.00 %, in 0 s, in a bundle of 5\n"


def test_a_stopped_study_has_no_time_left():
    rows = [row(state="interrupted", epoch=3, seconds_per_epoch=2.0), row(seed=1)]
    text = shown(render_study(rows, is_running=False))
    assert "3/10" in text
    assert "left" not in text.splitlines()[-1]
    assert not any(line.endswith(" s") for line in text.splitlines())


def test_a_hundred_trials_of_many_arms_fit_on_a_screen_and_what_happens_is_shown():
    rows = [row(f"arm {arm}", seed) for arm in range(25) for seed in range(4)]
    for each in rows[80:]:
        each.state = "running"
    rows[40].state = "failed"
    text = shown(render_study(rows, max_groups=MAX_GROUPS))
    assert len(text.splitlines()) <= MAX_GROUPS + MAX_RUNNING + 6
    assert "and 10 more" in text  # arms
    assert "and 8 more" in text  # running trials
    assert "arm 10 " in text
    assert "arm 24 " in text


def test_more_trials_than_signs_fit_are_counted():
    rows = [row(seed=seed, state="finished", epoch=10, error=4.0) for seed in range(60)] + [row(seed=60)]
    line = shown(render_study(rows)).splitlines()[1]
    assert line.split() == ["A", "61", "60", "finished,", "1", "waiting", "4.00", "%"]


@pytest.mark.parametrize(("encoding", "signs"), [("utf-8", STATE_SYMBOLS), ("ascii", ASCII_SYMBOLS)])
def test_signs_are_such_as_the_terminal_can_show(encoding, signs):
    console = Console(file=io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    assert state_symbols(console) == signs


# -- in a notebook -----------------------------------------------------------------------------------------------------


class FakeOutput:
    """The output of a cell: what it shows now."""

    def __init__(self):
        self.html = []

    def update(self, shown):
        self.html.append(shown)


@pytest.fixture
def output(monkeypatch):
    shown = FakeOutput()
    display = SimpleNamespace(HTML=str, display=lambda *_, **__: shown)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.setattr(notebook_progress, "SECONDS_BETWEEN_UPDATES", 0.0)
    return shown


def notebook_trials():
    return [TrialStatus(arm=arm, seed=seed, epochs=2, folder=f"{arm}{seed}") for arm in ("A", "<B>") for seed in (0, 1)]


def test_a_notebook_replaces_one_output_and_prints_no_line(output, capsys):
    console = Console(force_jupyter=True, stderr=True)
    with StudyProgress(notebook_trials(), 4, console) as progress:
        progress.start_trial("A0")
        progress.log_epoch("A0", {"epoch": 0, "seconds": 1.0, "validation_error": 20.0})
        running = output.html[-1]
        progress.finish_trial("A0", "finished", 10.0)
        progress.print_message("trial A1 failed and is tried again")
    assert "0 of 4 trials, 1 of 8 epochs" in running
    assert "<td>A, seed 0</td>" in running
    assert "20.00 %" in running
    ended = output.html[-1]
    assert "1 of 4 trials, 2 of 8 epochs" in ended
    assert "<li>trial A1 failed and is tried again</li>" in ended
    assert "&lt;B&gt;" in ended
    assert not any("\x1b" in html or "<B>" in html for html in output.html)
    assert capsys.readouterr() == ("", "")


def test_updates_of_a_notebook_are_limited_and_the_last_one_is_shown(output, monkeypatch):
    monkeypatch.setattr(notebook_progress, "SECONDS_BETWEEN_UPDATES", 3600.0)
    with StudyProgress(notebook_trials(), 4, Console(force_jupyter=True)) as progress:
        for epoch in range(2):
            progress.log_epoch("A0", {"epoch": epoch, "seconds": 1.0, "validation_error": 20.0})
    assert len(output.html) <= 2
    assert "2 of 8 epochs" in output.html[-1]


def test_a_quiet_study_shows_nothing_in_a_notebook(output):
    with StudyProgress(notebook_trials(), 4, Console(force_jupyter=True, quiet=True), quiet=True) as progress:
        progress.finish_trial("A0", "finished", 10.0)
    assert output.html == []
