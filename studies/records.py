"""What a study leaves behind, read back together: the registration of its first start, its trials, its starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from ablations import Claim, Difference, Factorial, Property, Reference
from lightning_modules.values import Leaf
from studies.results import SCHEMA, Result

State = Literal["finished", "diverged", "failed", "running"]


@dataclass(frozen=True, kw_only=True)
class Registration:
    """A study as it was registered at its first start. A report reads this, never today's files.

    Attributes:
        study: name of the ablation.
        protocol: name of the protocol.
        protocol_note: the protocol's docstring.
        overrides: ``--set`` paths and values, applied to every arm alike.
        arms: names, the baseline first.
        varies: paths that the contrast may change.
        forced: paths that had to change with it, each with its reason.
        changes: per arm, every leaf that differs from the baseline.
        held: leaves that are equal in all arms.
        properties: per arm, what was measured on the network as built: ``weight_layers``, ``parameters``,
            ``conv_parameters``, ``multiply_adds``, ``receptive_field`` (pixels), ``nonlinearities``; what cannot be
            measured on a network is left out.
        built: per arm but the baseline, the modules in which the two networks as built differ, by place.
        property_studied: the measured property that the study is about; ``None`` where none is.
        factorial: two crossed factors, where the arms are their combinations.
        donors: per arm with a warm start, the arm whose trials its own start from.
        donor_epochs: per arm with a warm start, the epochs that its donor is trained for: charged to the arm.
        unknowns: per arm, sentences on what cannot be known of a foreign module or data set.
        smallest_effect: smallest difference of interest in test error, percentage points.
        seeds: planned seeds, the same for every arm.
        data: what was read: ``name``, ``form``, ``classes``, ``digest``; examples as ``train``, ``validation``,
            ``test``.
    """

    study: str
    question: str
    protocol: str
    protocol_note: str
    overrides: Mapping[str, Leaf]
    arms: tuple[str, ...]
    varies: tuple[str, ...]
    forced: Mapping[str, str]
    changes: Mapping[str, tuple[Difference, ...]]
    held: Mapping[str, Leaf]
    properties: Mapping[str, Mapping[str, int]]
    built: Mapping[str, tuple[Difference, ...]]
    property_studied: Property | None
    factorial: Factorial | None
    donors: Mapping[str, str]
    donor_epochs: Mapping[str, int]
    unknowns: Mapping[str, tuple[str, ...]]
    claims: tuple[Claim, ...]
    smallest_effect: float
    reference: Reference | None
    seeds: tuple[int, ...]
    data: Mapping[str, str | int]
    schema: int = SCHEMA

    @property
    def baseline(self) -> str:
        """The arm that every other one is compared with."""
        return self.arms[0]


@dataclass(frozen=True)
class Identity:
    """What must agree before a finished trial is used again: fingerprint, data, code, platform.

    Attributes:
        code: this package's digest; behind a ``+``, that of the user's own code, where the fit has any.
    """

    fingerprint: str
    data: str
    code: str
    platform: str

    @classmethod
    def of(cls, fingerprint: str, digests: Mapping[str, str]) -> Identity:
        """From a fingerprint and the digests beside it."""
        codes = filter(None, (digests["code"], digests.get("user_code", "")))
        return cls(fingerprint, digests["data"], "+".join(codes), digests["platform"])

    @property
    def user_code(self) -> str:
        """Digest of the user's own code; empty where there is none."""
        return self.code.partition("+")[2]

    @property
    def tags(self) -> dict[str, str]:
        """As they stand on a run."""
        return asdict(self)


@dataclass(frozen=True)
class Ended:
    """A trial that some study has ended, wherever it is recorded."""

    identity: Identity
    status: str
    run_id: str
    parent_id: str


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """A result in its place in the study, as read back from the store.

    Attributes:
        state: the result's status, or ``running`` where the trial has not ended.
        reused_from: the run that trained it, where another study did; else empty.
        progress: the last values logged of a trial that runs.
    """

    arm: str
    seed: int
    run_id: str
    state: State
    result: Result | None
    reused_from: str = ""
    progress: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Start:
    """One ``ablate run`` of the study: when, how, with what code."""

    time: str
    command: str
    revision: str
    clean: bool
    versions: Mapping[str, str]
    hardware: str
    seeds: tuple[int, ...]
    wall_seconds: float


@dataclass(frozen=True, kw_only=True)
class StudyRecord:
    """A study as read back: all that a report needs.

    Attributes:
        labels: true class of every test example; ``None`` where no trial stored predictions.
    """

    registration: Registration
    trials: tuple[TrialRecord, ...]
    starts: tuple[Start, ...]
    labels: npt.NDArray[np.uint16] | None
    run_id: str
    experiment_id: str
    tracking_uri: str

    def of(self, arm: str, seed: int) -> TrialRecord | None:
        """The trial of an arm under a seed, if there is one."""
        return next((trial for trial in self.trials if (trial.arm, trial.seed) == (arm, seed)), None)

    def errors(self, metric: str = "test_error") -> npt.NDArray[np.float64]:
        """A final metric, arms x planned seeds, in the registration's order; NaN where a trial did not finish."""
        table = np.full((len(self.registration.arms), len(self.registration.seeds)), np.nan)
        for row, arm in enumerate(self.registration.arms):
            for column, seed in enumerate(self.registration.seeds):
                trial = self.of(arm, seed)
                if trial and trial.state == "finished" and trial.result and metric in trial.result.metrics:
                    table[row, column] = trial.result.metrics[metric]
        return table
