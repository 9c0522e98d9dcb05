"""What a worker gets, and who wants to know how it goes. Imports neither Ray nor torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from studies.fits import Fit


@dataclass(frozen=True, kw_only=True)
class Job:
    """A fit with all that a worker needs to train it anywhere.

    Attributes:
        donors: folders of the trials that it starts from, or tests.
        import_paths: folders in which Python finds the user's modules; one that is not absolute lies beside this
            package, as on the nodes of a cluster.
        models: of CPU or GPU that the study's platform is; empty for any. Elsewhere the trial is not trained: its bits
            would not be what its digest says.
        again: whether it is to be trained even where its folder holds a result.
    """

    fit: Fit
    folder: Path
    digests: Mapping[str, str]
    donors: tuple[Path, ...] = ()
    import_paths: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    again: bool = False


class Watcher(Protocol):
    """What the driver wants to know while trials run; called in the driver's own thread."""

    def on_start(self, job: Job) -> None:
        """A trial has a worker; called again where it is tried once more."""

    def on_epoch(self, job: Job, values: Mapping[str, float], node: str) -> None:
        """A trial has trained an epoch, on a node of that name."""

    def on_end(self, job: Job) -> None:
        """A trial has written its result."""

    def on_fault(self, job: Job, reason: str, tries: int, most: int) -> None:
        """A trial met a fault of the machine and is tried again; it has been begun so often, and may be at most."""

    def on_lost(self, job: Job, reason: str) -> None:
        """A trial met a fault of the machine again and again, and has no result."""

    def on_elsewhere(self, job: Job, who: str) -> None:
        """A trial is being trained by another process, of another study or host: it is waited for."""

    def on_note(self, job: Job, text: str) -> None:
        """A trial has news in words."""
