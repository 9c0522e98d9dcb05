"""The registration of a study: question, arms, claims and conditions as declared at its first start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ablations import Claim, ComponentDesign, Difference, Factorial, Property, Reference, Replication
from lightning_modules.specs.notebook_html import describe_object
from lightning_modules.specs.values import Leaf
from studies.design.tuning import TuningBudget
from studies.records.results import RECORD_SCHEMA


@dataclass(frozen=True, kw_only=True)
class Registration:
    """A study as registered at its first start; reports read this, never today's files.

    Attributes:
        study: name of the ablation.
        protocol: name of the protocol.
        protocol_note: the protocol's docstring.
        overrides: ``--set`` paths and values, applied to every arm alike.
        arms: names, the baseline first.
        varies: setting paths that the contrast may change.
        forced: setting paths that had to change as well, each with its reason.
        changes: per arm but the baseline, every setting that differs from the baseline.
        held: settings that are equal in all arms, by path.
        properties: per arm and source network, measured on the instantiated network: ``weight_layers``,
            ``parameters``, ``conv_parameters``, ``multiply_adds``, ``receptive_field`` (pixels), ``nonlinearities``; a
            property that cannot be measured is left out.
        built: per arm but the baseline, the modules in which the two instantiated networks differ, by layer path.
        property_studied: the measured property that the study is about, if there is one.
        factorial: two crossed factors, where the arms are their combinations.
        claims: registered claims, in order.
        reference: published results of the same arms, where the baseline's setup has any.
        donors: per arm with a warm start, the arm or trial that is its source; for a source with one likewise.
        donor_epochs: per arm with a warm start, the epochs of its chain of source networks, which are charged to it.
        unknowns: per arm, sentences on what cannot be known of a user's module or data set.
        smallest_effect: smallest difference of interest in test error, percentage points.
        seeds: planned seeds, the same for every arm.
        looks: numbers of seeds after which the claims are analyzed, each time at its share of the error rate; empty
            where the number of seeds was fixed.
        tuning: budget for tuning every arm's recipe, in addition to the comparison under the shared one; ``None`` for
            a study without tuning.
        tested: per arm that only evaluates, the arms or trials whose networks it evaluates.
        data: the data set: ``name``, ``form``, ``classes``, ``digest``; numbers of examples as ``train``,
            ``validation``, ``test``.
        registered: when, ISO 8601; empty in older records.
        num_planned: trials of the arms that were planned then.
        num_visible: those of them that had a result already, in this study or in any other, under any name.
        replications: results of public replications of the same arms, where the baseline's setup has any.
        design: what a generated ablation measures, component by component.
        layers: per arm, the path and description of every module that computes or learns, in the network's order; empty
            in older records.
        class_counts: examples in ``train`` (under the first seed) and ``test``, by the name of the class.
    """

    # The names of these fields are the keys of ``registration.json``: renaming one makes earlier records unreadable.
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
    # With defaults, as records from before these fields were added lack them.
    looks: tuple[int, ...] = ()
    tuning: TuningBudget | None = None
    tested: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    registered: str = ""
    num_planned: int = 0
    num_visible: int = 0
    class_counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    replications: tuple[Replication, ...] = ()
    design: ComponentDesign | None = None
    layers: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    schema: int = RECORD_SCHEMA

    def __repr__(self) -> str:
        counts = f"{len(self.arms)} arms × {len(self.seeds)} seeds, {len(self.claims)} claims"
        return describe_object(self, f"of {self.study} under {self.protocol}: {counts}")

    @property
    def baseline(self) -> str:
        """The arm that every other one is compared with."""
        return self.arms[0]

    @property
    def num_trials(self) -> int:
        """Planned trials of the arms; with interim analyses, as many as the last one reads."""
        return len(self.arms) * max(len(self.seeds), self.looks[-1] if self.looks else 0)

    @property
    def placebos(self) -> dict[str, str]:
        """Per placebo arm, the stream of random numbers that it draws anew."""
        found = {}
        for arm, changes in self.changes.items():
            for change in changes:
                if change.path == "redraws":
                    found[arm] = str(change.after)
        return found

    def source_chain(self, arm: str) -> tuple[str, ...]:
        """Return the source networks of an arm, the nearest first; empty for a start from scratch."""
        return source_chain_of(arm, self.donors)


def source_chain_of(arm: str, source_arms: Mapping[str, str]) -> tuple[str, ...]:
    """Follow warm starts from an arm to its source, the source's own source, and so on.

    Args:
        source_arms: per arm or source with a warm start, its source.
    """
    chain = []
    while arm in source_arms:
        arm = source_arms[arm]
        chain.append(arm)
    return tuple(chain)
