"""The end of a study's start: its run is closed once, by whichever thread comes first."""

from __future__ import annotations

import threading

from studies.runner.study_run import StudyRun
from studies.storage.lease import Lease


class StudyClosing:
    """Closes the run of one start, unless another process runs the study by now.

    Args:
        lease: on the study's folder.
    """

    def __init__(self, study_run: StudyRun, lease: Lease) -> None:
        self.study_run, self.lease = study_run, lease
        self.lock = threading.Lock()
        self.is_closed = False
        self.is_closed_late = False

    def close_late(self) -> None:
        """Close the run and release the lease, from another thread, as this process is about to be ended."""
        with self.lock:
            if self.is_closed or not self.lease.is_held:
                return
            self.is_closed = self.is_closed_late = True
            self.study_run.close(complete=False)
            self.lease.release()

    def close(self, *, complete: bool) -> None:
        """Close the run, or say that another process goes on with the study.

        Args:
            complete: whether this start did all that it was to do.
        """
        with self.lock:
            if self.is_closed:
                return
            self.is_closed = True
            if self.lease.is_held:
                self.study_run.close(complete=complete)
            else:
                context = self.study_run.context
                context.log(f"another process has taken {context.study.name} over and goes on with it")
