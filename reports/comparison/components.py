"""What each component of a generated design contributes, from the verdicts on its claims."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ablations import ComponentContrast, ComponentDesign, summarize_differences
from reports.analysis.arms import arm_mean_interval
from reports.analysis.confounds import NetworkChanges, network_changes_between, setting_differences
from reports.analysis.endpoints import ENDPOINT_UNITS, endpoint_values
from reports.analysis.sensitivity import MAX_DIFFERENCE
from reports.comparison.claims import JudgedClaim
from reports.formatting import NO_INTERVAL, Interval, choose_decimals, clip_interval
from reports.statistics import Contrast, Verdict
from studies.records.study_record import StudyRecord


@dataclass(frozen=True, kw_only=True)
class ComponentEffect:
    """What a component contributes: the difference between the arm without it and the arm with it.

    Attributes:
        estimate: in the endpoint's unit, positive where the arm with the component is lower; its interval is
            simultaneous over the study's claims.
        num_pairs: complete pairs of seeds.
        num_planned: planned pairs; under interim analyses, those of the analysis that resolved the claim.
        word: the verdict on the component's claim.
        changes: changed settings, in words.
        network_changes: properties in which the two instantiated networks differ.
    """

    contrast: ComponentContrast
    estimate: Interval
    num_pairs: int
    num_planned: int
    word: str
    changes: tuple[str, ...]
    network_changes: NetworkChanges


@dataclass(frozen=True, kw_only=True)
class ComponentAnalysis:
    """A generated design, component by component.

    Attributes:
        unit: of differences in the design's endpoint.
        effects: in the design's order.
        means: per arm of the design, its mean with its own interval.
    """

    design: ComponentDesign
    unit: str
    effects: tuple[ComponentEffect, ...]
    means: Mapping[str, Interval]

    @property
    def num_decimals(self) -> int:
        """Decimals that fit all numbers of the analysis."""
        half_widths = [effect.estimate.half_width for effect in self.effects]
        half_widths += [mean.half_width for mean in self.means.values()]
        return choose_decimals(half_widths, minimum=1)


def analyze_components(
    record: StudyRecord, verdicts: Iterable[Verdict], claims: Sequence[JudgedClaim]
) -> ComponentAnalysis | None:
    """Collect what a generated design has found; ``None`` for a study of another kind.

    Args:
        verdicts: on all registered claims, those of the components among them.
        claims: the same claims as a report shows them.
    """
    registration = record.registration
    design = registration.design
    if design is None:
        return None
    estimates: dict[tuple[str, str], Contrast] = {}
    for verdict in verdicts:
        if verdict.claim.endpoints == (design.endpoint,):  # a conjunction over others has contrasts in their units
            estimates |= {(contrast.over, contrast.arm): contrast for contrast in verdict.contrasts}
    effects = []
    for contrast in design.contrasts:
        pair = (contrast.over, contrast.arm)
        estimate = estimates.get(pair)
        summaries = summarize_differences(setting_differences(registration, *pair))
        effects.append(
            ComponentEffect(
                contrast=contrast,
                estimate=_to_interval(estimate),
                num_pairs=estimate.num_pairs if estimate else 0,
                num_planned=estimate.num_planned if estimate else len(registration.seeds),
                word=_verdict_word(claims, design, pair),
                changes=tuple(change.replace(" -> ", " → ") for change in summaries),
                network_changes=network_changes_between(registration, *pair),
            )
        )
    values = endpoint_values(record, design.endpoint)
    means = {arm: arm_mean_interval(values[registration.arms.index(arm)]) for arm in design.arms}
    return ComponentAnalysis(design=design, unit=ENDPOINT_UNITS[design.endpoint], effects=tuple(effects), means=means)


def _to_interval(estimate: Contrast | None) -> Interval:
    if estimate is None:
        return NO_INTERVAL
    # Simultaneous intervals of few seeds are wide, and may reach beyond what two errors can differ by.
    interval = Interval(value=estimate.estimate, low=estimate.low, high=estimate.high)
    return clip_interval(interval, -MAX_DIFFERENCE, MAX_DIFFERENCE)


def _verdict_word(claims: Iterable[JudgedClaim], design: ComponentDesign, pair: tuple[str, str]) -> str:
    """The verdict on the claim about two arms, which the design registered."""
    for judged in claims:
        if judged.claim.endpoints == (design.endpoint,) and judged.claim.contrasts == (pair,):
            return judged.word
    return ""
