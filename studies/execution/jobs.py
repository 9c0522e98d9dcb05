"""Work order for a trial's worker, and the events of its run. Imports neither Ray nor torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from studies.design.trial import Trial

MessageKind = Literal["epoch", "beat", "note", "ended", "elsewhere", "fault"]
FINAL_KINDS: tuple[MessageKind, ...] = ("ended", "elsewhere", "fault")


@dataclass(frozen=True, kw_only=True)
class TrialJob:
    """A trial with everything that a worker needs to train it on any machine.

    Attributes:
        trial: the setup and the seed.
        folder: the trial's folder.
        digests: digests of the code, data and platform, which are recorded with the result.
        dependency_folders: folders of the trials that it starts from (warm start) or evaluates.
        import_paths: folders in which Python finds the user's modules. A relative one lies beside this package, as on
            the nodes of a cluster.
        device_models: the CPU or GPU models of the study's platform; empty for any. On another model the trial is not
            trained: its result would not be bit-for-bit what its platform digest claims.
        retrain: whether it is trained even where its folder holds a result.
    """

    trial: Trial
    folder: Path
    digests: Mapping[str, str]
    dependency_folders: tuple[Path, ...] = ()
    import_paths: tuple[str, ...] = ()
    device_models: tuple[str, ...] = ()
    retrain: bool = False


@dataclass(frozen=True)
class TrialMessage:
    """Message from a trial's process to its worker.

    Attributes:
        kind: ``epoch``: an epoch has ended; ``beat``: heartbeat; ``note``: a message for the user; ``ended``: the
            result is written; ``elsewhere``: another process trains this trial; ``fault``: the process died, hung, or
            met a fault of the machine, so the trial has no result and is started again.
        text: of an epoch the node's name, of a note the message, of ``elsewhere`` the other process, of a fault the
            reason or the traceback.
        values: the metrics of an epoch.
        position: of the trial in its bundle.
    """

    kind: MessageKind
    text: str = ""
    values: Mapping[str, float] = field(default_factory=dict)
    position: int = 0


class StartGate(Protocol):
    """Decides before each start of a bundle whether it may start; asked and told by the queue."""

    def read_cancelled(self) -> frozenset[str]:
        """Fingerprints of the trials that the user has cancelled."""

    def take_retries(self) -> frozenset[str]:
        """Fingerprints of the trials that the user wants trained again, each once."""

    def admit(
        self,
        bundle: Sequence[TrialJob],
        waiting: Sequence[Sequence[TrialJob]],
        share_of: Callable[[TrialJob], float],
    ) -> bool:
        """Whether a bundle may start now; one that was admitted before stays admitted.

        Args:
            waiting: all bundles that have not started, this one among them.
            share_of: the share of all machines that a job takes.
        """

    def is_admitted(self, bundle: Iterable[TrialJob]) -> bool:
        """Whether a bundle was admitted before."""

    def on_start(self, bundle: Sequence[TrialJob]) -> None:
        """Handle the start of a bundle."""

    def on_trial_end(self, job: TrialJob, bundle: Sequence[TrialJob]) -> None:
        """Handle the result of a job of a running bundle."""

    def on_end(self, bundle: Sequence[TrialJob]) -> None:
        """Handle the end of the last job of a bundle, however it ended."""


class TrialListener(Protocol):
    """Receiver of the events of running trials; called in the driver's own thread."""

    def on_start(self, job: TrialJob, bundle_size: int) -> None:
        """Handle the start of a trial, and each start after a fault, in a process with so many trials."""

    def on_epoch(self, job: TrialJob, values: Mapping[str, float], node: str) -> None:
        """Handle the metrics of an epoch, trained on the node of that name."""

    def on_end(self, job: TrialJob) -> None:
        """Handle a trial whose result has been written."""

    def on_fault(self, job: TrialJob, reason: str, tries: int, most: int) -> None:
        """Handle a fault of the machine, after which the trial is started again.

        Args:
            reason: an error text, or a traceback.
            tries: how many starts have failed so far.
            most: how many starts are allowed in all.
        """

    def on_lost(self, job: TrialJob, reason: str) -> None:
        """Handle the last allowed fault of the machine: the trial has no result."""

    def on_cancel(self, job: TrialJob) -> None:
        """Handle a trial that the user has cancelled, or that depends on one."""

    def on_elsewhere(self, job: TrialJob, who: str) -> None:
        """Handle a trial that another process trains, of another study or host; its result is waited for."""

    def on_note(self, job: TrialJob, text: str) -> None:
        """Handle a message about the trial for whoever watches the study."""
