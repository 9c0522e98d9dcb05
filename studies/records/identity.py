"""The identity of a trial's result: its fingerprint, and the digests of data, code and platform."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass

from studies.records.results import ResultStatus, recorded_statuses_of


@dataclass(frozen=True)
class TrialKey:
    """Identity of a trial's result; a recorded result is reused only where all fields agree.

    Attributes:
        fingerprint: of setup, seed and dependencies.
        data: digest of the data.
        code: digest of this package's training code; behind a ``+``, that of the user's own code, where the trial has
            any.
        platform: digest of library versions, device model, threads and workers.
    """

    fingerprint: str
    data: str
    code: str
    platform: str

    @classmethod
    def from_digests(cls, fingerprint: str, digests: Mapping[str, str]) -> TrialKey:
        """Make the key of a trial from its fingerprint and its digests."""
        # One tag for both, so that a search for equal code is one condition.
        codes = filter(None, (digests["code"], digests.get("user_code", "")))
        return cls(fingerprint, digests["data"], "+".join(codes), digests["platform"])

    @property
    def user_code(self) -> str:
        """Digest of the user's own code; empty where there is none."""
        # Digests are hexadecimal: a "+" can only be the separator.
        return self.code.partition("+")[2]

    @property
    def tags(self) -> dict[str, str]:
        """The fields as tags of a run in the tracking store."""
        return asdict(self)


def is_recorded(key: TrialKey | None, status: ResultStatus, recorded: Collection[tuple[TrialKey | None, str]]) -> bool:
    """Whether a trial's result is among the recorded ones, under its status or that of earlier versions."""
    return any((key, name) in recorded for name in recorded_statuses_of(status))


@dataclass(frozen=True)
class EndedTrial:
    """A trial that has ended in some study, and its runs in the tracking store."""

    key: TrialKey
    status: str
    run_id: str
    parent_run_id: str
