"""Effects of two crossed factors on an endpoint: main effects, interactions, and their meaning in words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ablations import ENDPOINT_LABELS, Endpoint, Factorial
from lightning_modules.specs.text import join_words
from reports.analysis.arms import arm_mean_interval
from reports.analysis.confounds import network_changes_between
from reports.analysis.endpoints import ENDPOINT_UNITS, endpoint_values, lost_to_divergence, value_resolution
from reports.analysis.interim import confidence_level, study_alpha
from reports.analysis.sensitivity import MAX_DIFFERENCE
from reports.formatting import Interval, choose_decimals, clip_interval, format_contrast, format_fixed, format_interval
from reports.statistics import EffectEstimate, estimate_effects
from reports.statistics.factorial import EffectKind
from studies.records.registration import Registration
from studies.records.study_record import StudyRecord


@dataclass(frozen=True, kw_only=True)
class FactorEffect:
    """Main effect or interaction in the endpoint's unit, positive where the endpoint falls.

    Attributes:
        kind: ``rows``, ``columns`` or ``interaction``.
        factor_label: name of the factor, or of both.
        change: from which level to which, and where.
        levels: the level of the factor, or of both, that is compared with the first.
        estimate: with its interval, simultaneous over the effects of the endpoint and cut at what is possible.
        num_pairs: seeds that are complete in every cell that it reads.
        num_planned: seeds of the study.
    """

    kind: EffectKind
    factor_label: str
    change: str
    levels: tuple[str, ...]
    estimate: Interval
    num_pairs: int
    num_planned: int


@dataclass(frozen=True, kw_only=True)
class FactorialAnalysis:
    """Analysis of two crossed factors on one endpoint.

    Attributes:
        unit: of the endpoint.
        cell_values: values per planned seed, rows x columns of the factors; NaN where there is none.
        cell_means: of the cells, with the arm's own interval.
        num_lost: planned seeds of each cell that did not train, and have no value of the endpoint.
        confidence_level: of the intervals of the effects, as printed.
        effects: the main effects, then the interactions.
        sentences: the meaning of each interaction, with the names of the factors.
        confounds: per factor with a confounded contrast of two cells, what else changed in any of them.
    """

    endpoint: Endpoint
    unit: str
    factorial: Factorial
    cell_values: tuple[tuple[tuple[float, ...], ...], ...]
    cell_means: tuple[tuple[Interval, ...], ...]
    num_lost: tuple[tuple[int, ...], ...]
    confidence_level: str
    effects: tuple[FactorEffect, ...]
    sentences: tuple[str, ...]
    confounds: tuple[str, ...]

    @property
    def num_decimals(self) -> int:
        """Decimals that fit all numbers of the analysis."""
        half_widths = [effect.estimate.half_width for effect in self.effects]
        for row in self.cell_means:
            half_widths += [mean.half_width for mean in row]
        return choose_decimals(half_widths, minimum=1)


def analyze_factorial(record: StudyRecord, endpoints: Iterable[Endpoint]) -> tuple[FactorialAnalysis, ...]:
    """Analyze a registered factorial on each endpoint; empty where no factorial was registered."""
    design = record.registration.factorial
    if design is None:
        return ()
    return tuple(_analyze_endpoint(design, endpoint, record) for endpoint in endpoints)


def _analyze_endpoint(design: Factorial, endpoint: Endpoint, record: StudyRecord) -> FactorialAnalysis:
    table, arms = endpoint_values(record, endpoint), record.registration.arms
    lost = lost_to_divergence(record, endpoint).sum(axis=1).tolist()
    cell_values, cell_means, num_lost = [], [], []
    for row in design.cells:
        row_values = [table[arms.index(arm)] for arm in row]
        num_lost.append(tuple(lost[arms.index(arm)] for arm in row))
        cell_values.append(tuple(tuple(map(float, values)) for values in row_values))
        cell_means.append(tuple(map(arm_mean_interval, row_values)))
    estimates = estimate_effects(
        table,
        arms,
        design.cells,
        design.rows.levels,
        design.columns.levels,
        alpha=study_alpha(record.registration),  # a sequential study reads every interval at its analyses' level
        resolution=value_resolution(record.registration, endpoint),
    )
    analysis = FactorialAnalysis(
        endpoint=endpoint,
        unit=ENDPOINT_UNITS[endpoint],
        factorial=design,
        cell_values=tuple(cell_values),
        cell_means=tuple(cell_means),
        num_lost=tuple(num_lost),
        confidence_level=confidence_level(record.registration),
        effects=tuple(_to_factor_effect(design, estimate) for estimate in estimates),
        sentences=(),
        confounds=tuple(_describe_confounds(record.registration, design)),
    )
    # The sentences print as many decimals as the whole analysis, so they come last.
    sentences = []
    for effect in analysis.effects:
        if effect.kind == "interaction":
            sentences.append(_describe_interaction(analysis, effect))
    return replace(analysis, sentences=tuple(sentences))


def _describe_confounds(registration: Registration, design: Factorial) -> Iterable[str]:
    """Describe, per factor, what else changed: ``kernels: changed parameters and multiply-adds``."""
    columns_of_cells = tuple(zip(*design.cells, strict=True))
    verb = "also changed" if registration.property_studied else "changed"
    for factor, lines in ((design.rows, columns_of_cells), (design.columns, design.cells)):
        confounds: dict[str, None] = {}  # a dict as an ordered set
        for first, *others in lines:
            # Every level is compared with the first one, within one level of the other factor.
            for other in others:
                changes = network_changes_between(registration, first, other)
                if not changes.contrast.is_unconfounded:
                    confounds |= dict.fromkeys(changes.confounds)
        if confounds:
            yield f"{factor.name}: {verb} {join_words(confounds)}"


def _to_factor_effect(design: Factorial, effect: EffectEstimate) -> FactorEffect:
    rows, columns = design.rows, design.columns
    if effect.kind == "interaction":
        row, column = effect.levels
        factor_label = f"{rows.name} × {columns.name}"
        change = f"{format_contrast(columns.levels[0], column)}: under {row} minus under {rows.levels[0]}"
    else:
        # A main effect compares a level with the first one of its factor.
        factor, other = (rows, columns) if effect.kind == "rows" else (columns, rows)
        factor_label = factor.name
        change = f"{format_contrast(factor.levels[0], effect.levels[0])}, averaged over {other.name}"
    # An interaction is a difference of two differences, and may be twice as large as one.
    limit = 2 * MAX_DIFFERENCE if effect.kind == "interaction" else MAX_DIFFERENCE
    interval = Interval(value=effect.estimate, low=effect.low, high=effect.high)
    return FactorEffect(
        kind=effect.kind,
        factor_label=factor_label,
        change=change,
        levels=effect.levels,
        estimate=clip_interval(interval, -limit, limit),
        num_pairs=effect.num_pairs,
        num_planned=effect.num_planned,
    )


def _describe_interaction(analysis: FactorialAnalysis, effect: FactorEffect) -> str:
    """Describe the effect of the column factor under either level of the row factor, and their difference."""
    rows, columns = analysis.factorial.rows, analysis.factorial.columns
    row, column = effect.levels
    row_index, column_index = rows.levels.index(row), columns.levels.index(column)
    # The four cells of the interaction: two levels of the row factor by two of the column factor, each over seeds.
    first_row, other_row = np.array(analysis.cell_values[0]), np.array(analysis.cell_values[row_index])
    first_row, other_row = first_row[[0, column_index]], other_row[[0, column_index]]
    is_complete = np.isfinite(np.concatenate([first_row, other_row])).all(axis=0)
    change = f"Changing {columns.name} from {columns.levels[0]} to {column}"
    endpoint = ENDPOINT_LABELS[analysis.endpoint]
    if not is_complete.any():
        return (
            f"{change}: no seed has finished with a {endpoint} in all four arms, so nothing can be said of {endpoint}."
        )
    lost = [row[index] for row in (analysis.num_lost[0], analysis.num_lost[row_index]) for index in (0, column_index)]
    gains = [float(np.mean((cells[0] - cells[1])[is_complete])) for cells in (first_row, other_row)]
    effects = _describe_gains(analysis, gains, (rows.levels[0], row), endpoint)
    return f"{change} {effects}; the difference of the two is {_interpret_interaction(analysis, effect, lost)}"


def _describe_gains(
    analysis: FactorialAnalysis, gains: list[float], levels: tuple[str, str], endpoint_text: str
) -> str:
    """Describe two gains: ``lowers test error by 0.60 points under plain and by 2.85 points under residual``."""
    # Endpoints are costs: a positive gain is a fall.
    verbs = ["lowers" if gain >= 0 else "raises" for gain in gains]
    amounts = [f"{format_fixed(abs(gain), analysis.num_decimals)} {analysis.unit}".strip() for gain in gains]
    first = f"{verbs[0]} {endpoint_text} by {amounts[0]} under {levels[0]}"
    second = f"by {amounts[1]} under {levels[1]}"
    return f"{first} and {second}" if verbs[0] == verbs[1] else f"{first} and {verbs[1]} it {second}"


def _interpret_interaction(analysis: FactorialAnalysis, effect: FactorEffect, num_lost: Sequence[int]) -> str:
    interaction = effect.estimate
    rows, columns = analysis.factorial.rows.name, analysis.factorial.columns.name
    estimate = f"{format_interval(interaction, analysis.num_decimals)} {analysis.unit}".strip()
    if not (interaction.is_bounded and math.isfinite(interaction.value)):
        return f"{estimate}, without an interval: it takes two complete seeds."
    if len(set(num_lost)) > 1:
        # As for a difference of two arms: the seeds that did not train are likely an arm's worst.
        return (
            f"{estimate} over the {effect.num_pairs} of {effect.num_planned} seeds that are complete. The four arms "
            f"lost unequal numbers of seeds ({join_words(map(str, num_lost))}) that did not train: the rest cannot "
            "speak for all."
        )
    if interaction.low <= 0 <= interaction.high:
        return f"{estimate}, which includes 0: these seeds do not show that the effect of {columns} depends on {rows}."
    return f"{estimate}, which excludes 0: the effect of {columns} depends on {rows}."
