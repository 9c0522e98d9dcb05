"""Section on tuning: budgets, selected recipes, results under both."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lightning_modules.specs.text import format_count, name_seeds
from reports.analysis.arms import ArmSummary
from reports.analysis.tuning_budgets import ArmTuningSummary, TuningSummary
from reports.comparison.comparison import Comparison, TunedComparison
from reports.document import (
    Cell,
    Column,
    Row,
    Section,
    Table,
    interval_cell,
    mean_cell,
    nonempty_tables,
    number_cell,
    text_cell,
)
from reports.formatting import MISSING, choose_decimals, format_duration

SEARCH_FIGURE = "search"


def describe_tuning(tuned: TunedComparison) -> str:
    """Summarize the budget, for the study's facts."""
    candidates = f"{format_count(tuned.tuning_summary.tuning.trials, 'candidate')} per arm"
    return candidates if tuned.comparison else f"{candidates}; no comparison"


def tuning_section(comparison: Comparison, figure_names: Sequence[str]) -> Section:
    """Section with budgets, selected recipes and both results.

    Without the tuned result where unequal budgets do not allow a comparison.
    """
    assert comparison.tuned is not None
    tuned = comparison.tuned
    tables = []
    if tuned.comparison:
        tables += [
            _results_by_recipe_table(comparison, tuned.comparison),
            _verdicts_by_recipe_table(comparison, tuned.comparison),
        ]
    tables += [_budget_table(tuned), _selected_recipes_table(tuned), _importance_table(tuned)]
    paragraphs = (
        _search_introduction(tuned),
        *tuned.tuning_summary.refusal_reasons,
        *_recipe_dependence(comparison, tuned.comparison),
    )
    return Section(
        name="tuning",
        title="Tuning by arm",
        paragraphs=paragraphs,
        tables=nonempty_tables(*tables),
        figures=(SEARCH_FIGURE,) if SEARCH_FIGURE in figure_names else (),
    )


def _search_introduction(tuned: TunedComparison) -> str:
    tuning = tuned.tuning_summary.tuning
    return (
        "The results above compare the arms under one shared recipe. Here, each arm has the recipe with the lowest "
        f"validation error in a search with the same budget for every arm: {tuning.description}. Candidates are "
        f"trained under {name_seeds(tuning.seeds)}, which no comparison uses, and are never evaluated on the test set."
    )


def _recipe_dependence(comparison: Comparison, tuned_comparison: Comparison | None) -> tuple[str, ...]:
    """Say whether the verdicts depend on the recipes."""
    if tuned_comparison is None or not tuned_comparison.claims:
        return ()
    assert comparison.tuned is not None
    # An arm that no candidate trained has no recipe of its own: equal verdicts would then be no evidence.
    untrained = comparison.tuned.tuning_summary.untrained_arms
    if untrained:
        return (*untrained.values(), "So whether the verdicts depend on the recipe cannot be told.")
    num_claims = len(comparison.claims)
    dependent = []
    for claim, tuned_claim in zip(comparison.claims, tuned_comparison.claims, strict=True):
        if claim.word != tuned_claim.word:
            dependent.append(claim.sentence)
    if not dependent:
        claims = format_count(num_claims, "claim has", "claims have")
        return (f"No verdict depends on the recipe: {claims} the same verdict under both.",)
    verb = "depends" if len(dependent) == 1 else "depend"
    verdicts = format_count(num_claims, "verdict")
    return (f"{len(dependent)} of {verdicts} {verb} on the recipe: {' '.join(dependent)}",)


def _results_by_recipe_table(comparison: Comparison, tuned_comparison: Comparison) -> Table:
    baseline = comparison.registration.baseline
    half_widths = []
    for arm in (*comparison.arms, *tuned_comparison.arms):
        if arm.difference:
            half_widths.append(arm.difference.estimate.half_width)
    digits = choose_decimals(half_widths, minimum=1)
    columns = (
        Column(title="Arm"),
        Column(title="Error, shared recipe", unit="%", kind="number"),
        Column(title="Error, tuned", unit="%", kind="number"),
        Column(title=f"Error reduction against {baseline}, shared recipe", unit="points", kind="number"),
        Column(title=f"Error reduction against {baseline}, tuned", unit="points", kind="number"),
        Column(title="Completed, tuned", unit="of ended trials"),
    )
    rows = []
    # Both comparisons are of one registration, and so have the same arms in the same order.
    for shared, tuned in zip(comparison.arms, tuned_comparison.arms, strict=True):
        rows.append(
            (
                text_cell(shared.name, "strong"),
                mean_cell(shared.mean_error, digits),
                mean_cell(tuned.mean_error, digits),
                _difference_cell(shared, digits),
                _difference_cell(tuned, digits),
                text_cell(tuned.describe_outcomes),
            )
        )
    # Two families, because the shared recipe alone answers the registered question: no correction is paid for tuning.
    note = (
        f"Simultaneous {comparison.confidence_level} intervals, each result being a family of its own: choosing the "
        "preferred one of the two afterwards raises the error rate. The study's result is the one under the shared "
        "recipe; the other one shows whether it depends on that recipe."
    )
    caption = "Results under the shared recipe and with per-arm tuning"
    return Table(name="answers", caption=caption, columns=columns, rows=tuple(rows), notes=(note,))


def _difference_cell(arm: ArmSummary, digits: int) -> Cell:
    if arm.difference is None:
        return text_cell("baseline", "quiet")
    return interval_cell(arm.difference.estimate, digits)


def _verdicts_by_recipe_table(comparison: Comparison, tuned_comparison: Comparison) -> Table:
    columns = (
        Column(title="Claim"),
        Column(title="Shared recipe"),
        Column(title="Tuned"),
        Column(title="Finding and bounds, tuned"),
    )
    rows = []
    for claim, tuned in zip(comparison.claims, tuned_comparison.claims, strict=True):
        rows.append(
            (
                text_cell(claim.sentence),
                text_cell(claim.word, "strong"),
                text_cell(tuned.word, "strong" if tuned.word == claim.word else "alert"),
                text_cell(tuned.explanation),
            )
        )
    caption = "Verdicts under the shared recipe and with per-arm tuning"
    return Table(name="verdicts", caption=caption, columns=columns, rows=tuple(rows))


def _budget_table(tuned: TunedComparison) -> Table:
    arms = tuned.tuning_summary.arms
    has_sources = any(budget.source_epochs for budget in arms)
    columns = [
        Column(title="Arm"),
        Column(title="Candidates", kind="number"),
        Column(title="Epochs assigned", kind="number", about="over all rungs and tuning seeds"),
        Column(title="Epochs trained", kind="number", about="a candidate that becomes non-finite stops early"),
        Column(title="Time", kind="number"),
        Column(title="Trials", kind="number", about="a candidate has one on every rung under every tuning seed"),
        Column(title="Non-finite", unit="trials", kind="number"),
        Column(title="At chance", unit="trials", kind="number"),
        Column(title="Failed", unit="trials", kind="number"),
    ]
    # Only studies of transfer train networks for their candidates to start from.
    if has_sources:
        columns.insert(4, Column(title="Epochs of source networks", kind="number"))
    rows = tuple(_budget_row(budget, has_sources) for budget in arms)
    return Table(name="ledger", caption="Tuning budget", columns=tuple(columns), rows=rows)


def _budget_row(budget: ArmTuningSummary, has_sources: bool) -> Row:
    repeated = f" ({budget.num_restarted} repeated)" if budget.num_restarted else ""
    source_epochs = (_count_cell(budget.source_epochs),) if has_sources else ()
    return (
        text_cell(budget.arm, "strong"),
        _count_cell(budget.num_candidates),
        _count_cell(budget.assigned_epochs),
        _count_cell(budget.trained_epochs),
        *source_epochs,
        Cell(text=format_duration(budget.train_seconds), sort=budget.train_seconds),
        Cell(text=f"{budget.num_trials:,}{repeated}", sort=budget.num_trials),
        _count_cell(budget.num_nonfinite, alert=True),
        _count_cell(budget.num_at_chance, alert=True),
        _count_cell(budget.num_failed, alert=True),
    )


def _selected_recipes_table(tuned: TunedComparison) -> Table:
    summary = tuned.tuning_summary
    paths = summary.tuning.paths
    columns = (
        Column(title="Arm"),
        Column(title="Shared recipe", unit="% on validation", kind="number"),
        Column(title="Best", unit="% on validation", kind="number"),
        *(Column(title=path.removeprefix("recipe."), kind="code") for path in paths),
    )
    rows = []
    for budget in summary.arms:
        chosen = [_setting_cell(budget.chosen_values.get(path, MISSING)) for path in paths]
        rows.append(
            (
                text_cell(budget.arm, "strong"),
                number_cell(budget.shared_recipe_error, 1),
                number_cell(budget.best_error, 1),
                *chosen,
            )
        )
    note = (
        "Validation errors at full length, under the tuning seeds. They are used for the selection only: the lowest of "
        "several errors is optimistically biased."
    )
    if any(math.isnan(budget.shared_recipe_error) for budget in summary.arms):
        note += f" {MISSING}: the shared recipe was not trained at full length, or is not in the space."
    notes = (note, *_describe_steps(summary))
    return Table(name="chosen", caption="Selected recipes", columns=columns, rows=tuple(rows), notes=notes)


def _describe_steps(summary: TuningSummary) -> tuple[str, ...]:
    """How to measure which of the settings selected for the baseline make the difference; its values are exact."""
    baseline = summary.arms[0]
    if not baseline.chosen_values:
        return ()
    settings = ", ".join(f'"{path}": {value!r}' for path, value in baseline.chosen_values.items())
    return (
        f"Which of these settings make the difference is measured step by step, here for {baseline.arm}: "
        'StepByStep(question=..., base=Arm("default", EDITS), target=Arm("tuned", {**EDITS, '
        f"{settings}}})), where EDITS are those of the arm.",
    )


def _setting_cell(value: object) -> Cell:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)  # to Python, a bool is an int
    return text_cell(f"{value:g}" if is_number else str(value))


def _count_cell(number: int, *, alert: bool = False) -> Cell:
    return Cell(text=f"{number:,}", sort=number, tone="alert" if alert and number else "")


def _importance_table(tuned: TunedComparison) -> Table:
    tuning = tuned.tuning_summary.tuning
    columns = [Column(title="Arm")]
    columns += [Column(title=path.removeprefix("recipe."), kind="number") for path in tuning.paths]
    rows = []
    for budget in tuned.tuning_summary.arms:
        # Empty where too few candidates ended for an analysis of variance.
        if budget.importance:
            cells = [number_cell(budget.importance.get(path, math.nan), 2) for path in tuning.paths]
            rows.append((text_cell(budget.arm, "strong"), *cells))
    note = (
        "Relative importance by PED-ANOVA (Watanabe et al. 2023), summing to 1: how much the settings of the best "
        f"quarter of {tuning.trials} candidates differ from those of all. With so few candidates, this is a hint, not "
        "a finding."
    )
    caption = "Importance of the tuned settings"
    return Table(name="importance", caption=caption, columns=tuple(columns), rows=tuple(rows), notes=(note,))
