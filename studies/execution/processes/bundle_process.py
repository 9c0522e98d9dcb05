"""Handle of the process of a trial or a bundle, held by its worker: its messages, its end, and silence."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence

from studies.execution.jobs import FINAL_KINDS, MessageKind, TrialJob, TrialMessage
from studies.execution.processes.fork_server import ForkClient
from studies.execution.processes.trial_process import LEASE_LOST_EXIT_CODE, run_trial_process
from studies.hardware import Machine
from studies.settings import Settings

# Each list of messages costs the driver some milliseconds, and small networks finish epochs faster than anybody reads.
MESSAGE_BATCH_SECONDS = 0.5
MAX_SILENCE_SECONDS = 5.0  # after which the driver hears that nothing is new, and may stop a trial that is cancelled


class TrialProcess:
    """Handle of the process of a trial or of a bundle, held by its worker.

    The process is no daemon: daemons may not have children, and a user's data loader may start workers.

    Attributes:
        heard_at: of each trial that has not ended, when its last message came.
    """

    def __init__(self, forks: ForkClient, jobs: Sequence[TrialJob], settings: Settings, machine: Machine) -> None:
        self.hang_after_seconds = settings.hang_after_seconds
        self.heard_at = dict.fromkeys(range(len(jobs)), time.monotonic())
        self.process = forks.fork(run_trial_process, tuple(jobs), settings, machine)

    @property
    def has_ended(self) -> bool:
        """Whether every trial has sent how it ended."""
        return not self.heard_at

    def listen(self) -> list[TrialMessage]:
        """Wait for the next message; return it with those that follow within half a second, heartbeats left out."""
        messages = self._next_messages()
        batch_end = time.monotonic() + MESSAGE_BATCH_SECONDS
        while not self.has_ended:
            remaining_seconds = max(0.0, batch_end - time.monotonic())
            if not self.process.connection.poll(remaining_seconds):
                break
            messages += self._receive()
        return messages

    def _next_messages(self) -> list[TrialMessage]:
        """Wait for a message other than a heartbeat, for some seconds at most.

        A process of which a trial hangs is killed, which is a fault.
        """
        return_at = time.monotonic() + MAX_SILENCE_SECONDS
        while time.monotonic() < return_at:
            seconds_to_hang = self._seconds_to_hang()
            if seconds_to_hang is not None and seconds_to_hang <= 0 and not self.process.connection.poll(0):
                break
            wait_seconds = return_at - time.monotonic()
            if seconds_to_hang is not None:
                wait_seconds = min(wait_seconds, seconds_to_hang)
            if self.process.connection.poll(max(0.0, wait_seconds)):
                messages = self._receive()
                if messages:
                    return messages
        else:
            return []
        self.stop()
        return self._end_all("fault", describe_hang(self.hang_after_seconds))

    def _seconds_to_hang(self) -> float | None:
        """Seconds after which a silent trial counts as hung; ``None`` where none ever does."""
        if not self.hang_after_seconds:
            return None
        silent_seconds = time.monotonic() - min(self.heard_at.values())
        return max(0.0, self.hang_after_seconds - silent_seconds)

    def _receive(self) -> list[TrialMessage]:
        """Receive a message; heartbeats are taken note of, and the end of the process ends all its trials."""
        try:
            message: TrialMessage = self.process.connection.recv()
        except (EOFError, ConnectionError):
            return self._end_all(*self._exit_reason())
        self.heard_at[message.position] = time.monotonic()
        if message.kind in FINAL_KINDS:
            del self.heard_at[message.position]
        return [] if message.kind == "beat" else [message]

    def _end_all(self, kind: MessageKind, text: str) -> list[TrialMessage]:
        messages = [TrialMessage(kind, text, position=position) for position in self.heard_at]
        self.heard_at.clear()
        return messages

    def stop(self) -> None:
        """Kill the process; its files stay."""
        self.process.kill()

    def _exit_reason(self) -> tuple[MessageKind, str]:
        exitcode = self.process.join()
        if exitcode == LEASE_LOST_EXIT_CODE and len(self.heard_at) == 1:
            return "elsewhere", "another process, which took over its lease"
        if exitcode == LEASE_LOST_EXIT_CODE:  # of one trial of the bundle: tried again, it is found elsewhere
            return "fault", "the trial's process ended because another one took over a lease of its bundle"
        if exitcode == -signal.SIGKILL:
            return "fault", "the trial's process was killed (SIGKILL), probably because memory ran out"
        return "fault", f"the trial's process ended with exit code {exitcode} and left no result"


class FailedStart:
    """Handle of a process that could not be started."""

    has_ended = True

    def __init__(self, num_trials: int, reason: str) -> None:
        self.num_trials, self.reason = num_trials, reason

    def listen(self) -> list[TrialMessage]:
        """Return the reason, as a fault of every trial."""
        return [TrialMessage("fault", self.reason, position=position) for position in range(self.num_trials)]

    def stop(self) -> None:
        """Do nothing: there is no process."""


def describe_hang(silent_seconds: float) -> str:
    """Explain why a trial without heartbeats was killed."""
    return (
        f"the trial sent no heartbeat for {silent_seconds:g} s (no training step, no evaluated batch) and was killed. "
        "If a single step may take longer, set a larger --hang-after."
    )
