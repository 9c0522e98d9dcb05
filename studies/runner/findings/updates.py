"""Log what a study has found: while it runs, seldom enough to cost its trials nothing, and at its end."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from studies.records.study_record import RecordedTrial, StudyRecord
from studies.tracking.errors import STORE_ERRORS, TrackingError
from studies.tracking.interface.findings import FindingsOf, StudyFindings, digest_trials

FIRST_UPDATE_SECONDS = 30.0  # after the start: the statistics take a second to load, and a short study needs no news
MAX_SHARE = 0.01  # of the driver's time: 200 trials take 0.4 s to judge, and are judged every 40 s at most


class FindingsLog:
    """Keeps a study's trials as they end, and logs what they show from time to time.

    Used by one thread at a time: by the one that writes to the tracking store while trials run, and then by the
    driver's own.

    Args:
        find: what a record has found; ``None`` to log nothing.
        read_record: reads the study back from the tracking store, with the trials of earlier starts.
        write: logs findings to the study's run.
        say: prints a line.
    """

    def __init__(
        self,
        find: FindingsOf | None,
        read_record: Callable[[], StudyRecord],
        write: Callable[[StudyFindings], None],
        say: Callable[[str], None],
    ) -> None:
        self.find, self.read_record, self.write, self.say = find, read_record, write, say
        self.record: StudyRecord | None = None
        self.new_trials: list[RecordedTrial] = []
        self.due_at = time.monotonic() + FIRST_UPDATE_SECONDS

    def add_trial(self, trial: RecordedTrial) -> None:
        """Take in a trial that has ended and is logged; log what is found by now, if that is due."""
        if self.find is None:
            return
        self.new_trials.append(trial)
        begin = time.monotonic()
        if begin < self.due_at:
            return
        try:
            self._log(self._update_record())
        except (TrackingError, *STORE_ERRORS):  # the next update, or the study's end, logs it
            self.record = None
        took = time.monotonic() - begin
        self.due_at = time.monotonic() + max(FIRST_UPDATE_SECONDS, took / MAX_SHARE)

    def _update_record(self) -> StudyRecord:
        """The study with all trials so far; read once, as it takes some milliseconds a trial."""
        if self.record is None:
            self.record = self.read_record()
        else:
            trials = {(trial.arm, trial.seed): trial for trial in (*self.record.trials, *self.new_trials)}
            self.record = replace(self.record, trials=tuple(trials[key] for key in sorted(trials)))
        self.new_trials.clear()
        return self.record

    def log_final(self, record: StudyRecord, logged_digest: str) -> None:
        """Log what a study that has ended shows, unless its run bears just that.

        Args:
            logged_digest: of the trials that the findings on its run are about; empty without findings.
        """
        if self.find is not None and digest_trials(record.trials) != logged_digest:
            self._log(record)

    def _log(self, record: StudyRecord) -> None:
        assert self.find is not None
        try:
            found = self.find(record)
        except Exception as error:  # a fault of the statistics must not end the training that it is about
            self.say(f"what was found could not be logged to the study's run ({type(error).__name__}: {error})")
            self.find = None
            return
        self.write(found)
