"""What a worker gets: a fit with all that it takes to train it anywhere. Imports neither Ray nor torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from studies.fits import Fit


@dataclass(frozen=True, kw_only=True)
class Job:
    """A fit with all that a worker needs to train it anywhere.

    Attributes:
        donor: folder of the trial that it starts from, where it does.
        import_paths: folders in which Python finds the user's modules.
        again: whether it is to be trained even where its folder holds a result.
    """

    fit: Fit
    folder: Path
    digests: Mapping[str, str]
    donor: Path | None = None
    import_paths: tuple[str, ...] = ()
    again: bool = False
