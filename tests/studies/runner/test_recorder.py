"""What the recorder logs later, where the tracking store refuses a write."""

from types import SimpleNamespace

import mlflow
import pytest

from studies.design.declare import declare
from studies.execution.jobs import TrialJob
from studies.runner.recorder import RunRecorder

(TRIAL,) = declare("depth", seeds=(0,)).trials()[:1]


class RefusingRuns:
    """Runs of a study in a store that refuses the first writes."""

    def __init__(self, num_refused):
        self.num_refused, self.logged = num_refused, []

    def placement_of(self, trial):
        return SimpleNamespace(label=trial.arm)

    def cancel_reasons(self, trials):
        return dict.fromkeys(trials, "cancelled by ada")

    def log_cancelled_trial(self, trial, reason):
        if self.num_refused:
            self.num_refused -= 1
            raise mlflow.exceptions.MlflowException("database is locked")
        self.logged.append((trial, reason))


class Progress:
    """Keeps the messages."""

    def __init__(self):
        self.messages = []

    def print_message(self, text):
        self.messages.append(text)

    def finish_trial(self, *arguments):
        """Nothing is shown here."""


class Writer:
    """Writes at once."""

    def add(self, write):
        write()


@pytest.mark.parametrize(("num_refused", "num_logged"), [(0, 1), (1, 1), (2, 0)])
def test_a_cancellation_that_the_store_refuses_is_logged_before_the_start_ends(tmp_path, num_refused, num_logged):
    runs, progress = RefusingRuns(num_refused), Progress()
    recorder = RunRecorder(runs, None, progress, Writer())
    recorder.on_cancel(TrialJob(trial=TRIAL, folder=tmp_path, digests={}))
    recorder.log_missed_ends()
    assert runs.logged == [(TRIAL, "cancelled by ada")] * num_logged
    told = [text for text in progress.messages if text.startswith("1 ended trial could not be logged")]
    assert len(told) == 1 - num_logged
