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
from studies.tuning import Tuning

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
        donors: per arm with a warm start, the arm whose trials its own start from; of a donor with one likewise.
        donor_epochs: per arm with a warm start, the epochs that its donor is trained for, and the donor's own donors
            before it: charged to the arm.
        unknowns: per arm, sentences on what cannot be known of a foreign module or data set.
        smallest_effect: smallest difference of interest in test error, percentage points.
        seeds: planned seeds, the same for every arm.
        looks: numbers of seeds after which the claims are looked at, each time at its share of the error rate; empty
            where the number of seeds was fixed.
        tuning: how every arm's recipe is tuned beside the comparison under the shared one; ``None`` where it is not.
        tested: per arm that trains nothing, the arms whose trained networks it tests; for a warm start see ``donors``.
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
    looks: tuple[int, ...] = ()
    tuning: Tuning | None = None
    tested: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    schema: int = SCHEMA

    @property
    def baseline(self) -> str:
        """The arm that every other one is compared with."""
        return self.arms[0]

    def chain(self, arm: str) -> tuple[str, ...]:
        """What an arm's trials start from, the nearest donor first; nothing for a start from scratch."""
        return chain_of(arm, self.donors)


def chain_of(arm: str, donors: Mapping[str, str]) -> tuple[str, ...]:
    """The donor of an arm, the donor's own donor, and so on, by the donor of each."""
    return (donors[arm], *chain_of(donors[arm], donors)) if arm in donors else ()


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
        recipe: ``shared`` by all arms, or what was ``tuned`` for its own.
        attempts: how often it was begun: more than once where it failed, or was interrupted and went on.
        faults: of the machine that it met, each in a line; after each it was tried again, or given up.
    """

    arm: str
    seed: int
    run_id: str
    state: State
    result: Result | None
    reused_from: str = ""
    progress: Mapping[str, float] = field(default_factory=dict)
    recipe: Literal["shared", "tuned"] = "shared"
    attempts: int = 1
    faults: tuple[str, ...] = ()


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
class CandidateRecord:
    """One fit of one candidate of an arm's search, as read back; or of a donor that it starts from.

    Attributes:
        number: the candidate's, from 0; with ``shared`` the first is the shared recipe.
        rung: round of halving, from 0.
        epochs: that it was given; ``trained`` are those that it trained before it ended.
        error, loss: on validation, percent and nats; NaN where there is none.
        values: what was tuned, as text, by path.
        attempts: runs of this fit, failed ones included.
        of_donor: whether this is the fit that the candidate starts from.
        tested: whether it was tested on the test part, which no candidate may be.
    """

    arm: str
    number: int
    rung: int
    seed: int
    epochs: int
    trained: int
    state: State
    error: float
    loss: float
    seconds: float
    values: Mapping[str, str]
    run_id: str
    attempts: int = 1
    of_donor: bool = False
    tested: bool = False


@dataclass(frozen=True, kw_only=True)
class TuningRecord:
    """What tuning spent and found, arm by arm, and the trials under what it chose.

    Attributes:
        candidates: every fit that was spent on tuning.
        chosen: per arm, the best candidate's values by path; an arm that found none is missing.
        best: per arm, the number of that candidate.
        importance: per arm, how much each path decided, as shares of 1; empty where too little is known.
        trials: of every arm under its own recipe and the planned seeds.
    """

    candidates: tuple[CandidateRecord, ...]
    chosen: Mapping[str, Mapping[str, Leaf]]
    best: Mapping[str, int]
    importance: Mapping[str, Mapping[str, float]]
    trials: tuple[TrialRecord, ...]


@dataclass(frozen=True, kw_only=True)
class StudyRecord:
    """A study as read back: all that a report needs.

    Attributes:
        trials: under the recipe that all arms share.
        labels: true class of every test example; ``None`` where no trial stored predictions.
        tuning: the other answer, where recipes were tuned arm by arm.
    """

    registration: Registration
    trials: tuple[TrialRecord, ...]
    starts: tuple[Start, ...]
    labels: npt.NDArray[np.uint16] | None
    run_id: str
    experiment_id: str
    tracking_uri: str
    tuning: TuningRecord | None = None

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
