"""Requests to cancel a trial or to train it again: files in a study's folder."""

from studies.storage.trial_requests import (
    Cancellation,
    list_cancelled,
    read_cancellations,
    remove_cancellation,
    request_retry,
    take_retries,
    write_cancellation,
)

REQUEST = Cancellation(arm="E", seed=3, reason="the loss explodes", user="ada")


def test_a_cancellation_is_read_back_with_its_author_and_reason(tmp_path):
    written = write_cancellation(tmp_path, "abc", REQUEST)
    assert read_cancellations(tmp_path, print) == {"abc": written}
    assert list_cancelled(tmp_path) == {"abc"}
    assert written.describe().startswith("cancelled by ada on ")
    assert written.describe().endswith(": the loss explodes")


def test_a_cancellation_is_taken_back_once(tmp_path):
    write_cancellation(tmp_path, "abc", REQUEST)
    assert remove_cancellation(tmp_path, "abc")
    assert not remove_cancellation(tmp_path, "abc")
    assert read_cancellations(tmp_path, print) == {}


def test_a_retry_is_taken_once_and_a_later_cancellation_removes_it(tmp_path):
    assert take_retries(tmp_path) == frozenset()
    request_retry(tmp_path, "abc")
    request_retry(tmp_path, "abc")
    assert take_retries(tmp_path) == {"abc"}
    assert take_retries(tmp_path) == frozenset()
    request_retry(tmp_path, "abc")
    write_cancellation(tmp_path, "abc", REQUEST)
    assert take_retries(tmp_path) == frozenset()


def test_a_damaged_file_is_named_and_hides_no_other(tmp_path):
    write_cancellation(tmp_path, "abc", REQUEST)
    damaged = write_cancellation(tmp_path, "def", REQUEST)
    (tmp_path / "requests" / "cancel-def.json").write_text("{")
    lines = []
    assert list(read_cancellations(tmp_path, lines.append)) == ["abc"]
    assert len(lines) == 1
    assert "cancel-def.json" in lines[0]
    assert "Delete it" in lines[0]
    assert damaged.arm == "E"
