"""`--notify` runs a command with JSON on its standard input, and never harms the study."""

import json
from types import SimpleNamespace

import pytest

from studies.cli.running import notify
from studies.cli.running.notify import notify_of_end, notify_of_failure, send_notification

STUDY = SimpleNamespace(name="depth", protocol=SimpleNamespace(name="digits"), seed_stages=((0, 1), (0, 1, 2)))


def recorded(seeds=(0, 1, 2), stop_reason=""):
    registration = SimpleNamespace(seeds=seeds, study="depth")
    return SimpleNamespace(run_id="r", trials=(1, 2), stop_reason=stop_reason, registration=registration)


@pytest.fixture(autouse=True)
def verdict(monkeypatch):
    monkeypatch.setattr(notify, "_describe_verdict", lambda record, _: {"word": "supported", "run": record.run_id})


def read(file):
    return json.loads(file.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("record", "errors", "event"),
    [
        (recorded(), [], "done"),
        (recorded(seeds=(0, 1)), [], "resolved early"),
        (recorded(seeds=(0, 1), stop_reason="stopped at its budget of 1 min"), [], "stopped at its budget"),
        (recorded(), [{"arm": "A", "seed": 0, "error": "no"}], "failed"),
    ],
)
def test_the_command_reads_how_the_study_ended_with_its_verdict(record, errors, event, tmp_path):
    notify_of_end(f"cat > {tmp_path / 'got'}", STUDY, None, record, errors)
    content = read(tmp_path / "got")
    assert (content["event"], content["study"], content["protocol"]) == (event, "depth", "digits")
    assert content["verdict"] == {"word": "supported", "run": "r"}
    assert content["failed"] == errors
    assert content["stopped"] == (record.stop_reason or None)


def test_a_study_that_fails_is_told_with_its_error_which_is_raised_again(tmp_path):
    with pytest.raises(OSError, match="no disk"), notify_of_failure(f"cat > {tmp_path / 'got'}", STUDY):
        raise OSError("no disk\nmore")
    content = read(tmp_path / "got")
    assert (content["event"], content["error"]) == ("failed", "no disk")


def test_a_command_that_fails_or_reads_nothing_is_one_line(capfd):
    send_notification("exit 3", {"text": "x" * 1_000_000})
    assert capfd.readouterr().err == "the command of --notify failed with exit code 3\n"
    send_notification("no-such-command-xyz 2>/dev/null", {})
    assert capfd.readouterr().err == "the command of --notify failed with exit code 127\n"


def test_a_command_that_hangs_is_killed_with_what_it_started(capfd, monkeypatch, tmp_path):
    monkeypatch.setattr(notify, "NOTIFICATION_SECONDS", 0.3)
    send_notification(f"(sleep 2; touch {tmp_path / 'late'}) & sleep 60", {})
    assert capfd.readouterr().err == "the command of --notify was killed: it ran for 0.3 s\n"
    assert not (tmp_path / "late").exists()


def test_its_output_stays_out_of_standard_output(capfd):
    send_notification("cat", {"a": 1})
    captured = capfd.readouterr()
    assert (captured.out, json.loads(captured.err)) == ("", {"a": 1})


def test_a_verdict_that_cannot_be_made_is_told_as_such(monkeypatch, tmp_path):
    def fail(*_):
        raise ValueError("damaged")

    monkeypatch.setattr(notify, "_describe_verdict", fail)
    notify_of_end(f"cat > {tmp_path / 'got'}", STUDY, None, recorded(), [])
    assert read(tmp_path / "got")["error"] == "the verdict could not be made: damaged"


def test_without_the_option_nothing_is_run(monkeypatch, capfd):
    started, described = [], []
    monkeypatch.setattr(notify.subprocess, "Popen", lambda command, **_: started.append(command))
    monkeypatch.setattr(notify, "_describe_verdict", described.append)
    notify_of_end(None, STUDY, None, recorded(), [])
    send_notification(None, {})
    assert (started, described) == ([], [])
    assert capfd.readouterr() == ("", "")
