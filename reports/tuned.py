"""The section on tuning: what every arm was given, and both answers side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence

from reports.arms import ArmRow
from reports.comparison import Comparison, TunedAnswer
from reports.numbers import MISSING, bracketed, decimals, duration, fixed, listed, plural, plus_minus
from reports.sections import Cell, Column, Section, Table, text
from reports.tuning import Budget

SEARCH = "search"


def told_tuned(tuned: TunedAnswer) -> str:
    """For the study's facts."""
    budget = tuned.budgets.tuning
    return f"{plural(budget.trials, 'candidate')} per arm" + ("" if tuned.comparison else "; no answer")


def tuned_section(comparison: Comparison, drawn: Sequence[str]) -> Section:
    """Budgets, both answers, what mattered; without the second answer where the budgets do not allow one."""
    assert comparison.tuned is not None
    tuned = comparison.tuned
    tables = (
        [_answers(comparison, tuned.comparison), _verdicts(comparison, tuned.comparison)] if tuned.comparison else []
    )
    tables += [_ledger(tuned), _chosen(tuned), _importance(tuned)]
    return Section(
        name="tuning",
        title="Tuned arm by arm",
        paragraphs=(_opening(comparison), *tuned.budgets.refused, *_dependence(comparison)),
        tables=tuple(table for table in tables if table.rows),
        figures=tuple(name for name in drawn if name == SEARCH),
    )


def _opening(comparison: Comparison) -> str:
    assert comparison.tuned is not None
    tuning = comparison.tuned.budgets.tuning
    seeds = listed(map(str, tuning.seeds))
    return (
        "What is above compares the arms under one shared recipe. Here each arm has the recipe that is best for it on "
        f"validation, after a search that every arm was given alike: {tuning.words}. Candidates are trained under seed "
        f"{seeds}, which no comparison uses, and never see the test part."
    )


def _dependence(comparison: Comparison) -> tuple[str, ...]:
    """Whether the verdicts depend on the recipes, in a sentence."""
    assert comparison.tuned is not None
    other = comparison.tuned.comparison
    if other is None or not other.claims:
        return ()
    pairs = list(zip(comparison.claims, other.claims, strict=True))
    moved = [claim.sentence for claim, tuned in pairs if claim.word != tuned.word]
    if not moved:
        return (
            f"No verdict depends on it: {plural(len(pairs), 'claim gets', 'claims get')} the same word under both.",
        )
    return (
        f"{len(moved)} of {plural(len(pairs), 'verdict')} {'depends' if len(moved) == 1 else 'depend'} on it: "
        f"{' '.join(moved)}",
    )


def _answers(comparison: Comparison, other: Comparison) -> Table:
    baseline = comparison.registration.baseline
    differences = [each.difference for arms in (comparison.arms, other.arms) for each in arms if each.difference]
    digits = decimals([each.estimate.half_width for each in differences], least=1)
    columns = (
        Column(title="Arm"),
        Column(title="Error, shared recipe", unit="%", kind="number"),
        Column(title="Error, tuned", unit="%", kind="number"),
        Column(title=f"Lower than {baseline}, shared recipe", unit="points", kind="number"),
        Column(title=f"Lower than {baseline}, tuned", unit="points", kind="number"),
        Column(title="Trained, tuned", unit="of run"),
    )
    rows = tuple(
        (
            text(shared.name, "strong"),
            Cell(text=plus_minus(shared.error, digits), sort=shared.error.value),
            Cell(text=plus_minus(tuned.error, digits), sort=tuned.error.value),
            _difference(shared, digits),
            _difference(tuned, digits),
            text(tuned.trained),
        )
        for shared, tuned in zip(comparison.arms, other.arms, strict=True)
    )
    note = (
        f"Simultaneous {comparison.level} intervals, a family of its own for each answer: a study that picks the one "
        "it likes is wrong more often. The answer under the shared recipe is the study's; the other one says whether "
        "it depends on that recipe."
    )
    return Table(name="answers", caption="Both answers", columns=columns, rows=rows, notes=(note,))


def _difference(arm: ArmRow, digits: int) -> Cell:
    if arm.difference is None:
        return text("baseline", "quiet")
    return Cell(text=bracketed(arm.difference.estimate, digits), sort=arm.difference.estimate.value)


def _verdicts(comparison: Comparison, other: Comparison) -> Table:
    columns = (
        Column(title="Claim"),
        Column(title="Shared recipe"),
        Column(title="Tuned"),
        Column(title="Why, tuned"),
    )
    rows = tuple(
        (
            text(claim.sentence),
            text(claim.word, "strong"),
            text(tuned.word, "strong" if tuned.word == claim.word else "alert"),
            text(tuned.reason),
        )
        for claim, tuned in zip(comparison.claims, other.claims, strict=True)
    )
    return Table(name="verdicts", caption="Every claim under both", columns=columns, rows=rows)


def _ledger(tuned: TunedAnswer) -> Table:
    has_donors = any(budget.donor_epochs for budget in tuned.budgets.arms)
    columns = (
        Column(title="Arm"),
        Column(title="Candidates", kind="number"),
        Column(title="Epochs given", kind="number", about="all rungs and tuning seeds together"),
        Column(title="Epochs trained", kind="number", about="a fit that diverges stops"),
        *([Column(title="Donors' epochs", kind="number")] if has_donors else []),
        Column(title="Time", kind="number"),
        Column(title="Diverged", kind="number"),
        Column(title="Failed", kind="number"),
    )
    rows = tuple(_spent(budget, has_donors) for budget in tuned.budgets.arms)
    return Table(name="ledger", caption="The tuning ledger", columns=columns, rows=rows)


def _spent(budget: Budget, has_donors: bool) -> tuple[Cell, ...]:
    donors = (_count(budget.donor_epochs),) if has_donors else ()
    repeated = f" ({budget.repeated} repeated)" if budget.repeated else ""
    return (
        text(budget.arm, "strong"),
        Cell(text=f"{budget.candidates}{repeated}", sort=budget.candidates),
        _count(budget.epochs),
        _count(budget.trained),
        *donors,
        Cell(text=duration(budget.seconds), sort=budget.seconds),
        _count(budget.diverged, alert=True),
        _count(budget.failed, alert=True),
    )


def _chosen(tuned: TunedAnswer) -> Table:
    paths = tuned.budgets.tuning.paths
    columns = (
        Column(title="Arm"),
        Column(title="Shared recipe", unit="% on validation", kind="number"),
        Column(title="Best", unit="% on validation", kind="number"),
        *(Column(title=path.removeprefix("recipe."), kind="code") for path in paths),
    )
    rows = tuple(
        (
            text(budget.arm, "strong"),
            Cell(text=fixed(budget.shared_error, 1), sort=budget.shared_error),
            Cell(text=fixed(budget.best_error, 1), sort=budget.best_error),
            *(_value(budget.values.get(path, MISSING)) for path in paths),
        )
        for budget in tuned.budgets.arms
    )
    note = (
        "Errors on validation at full length, under the tuning seeds: they flatter the best of several, and decide "
        "nothing but the choice."
    )
    if any(math.isnan(budget.shared_error) for budget in tuned.budgets.arms):
        note += " No figure: the shared recipe did not come to a full length, or is no point of the grid."
    return Table(name="chosen", caption="What was chosen", columns=columns, rows=rows, notes=(note,))


def _value(leaf: object) -> Cell:
    return text(f"{leaf:g}" if _is_number(leaf) else str(leaf))


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _count(number: int, *, alert: bool = False) -> Cell:
    return Cell(text=f"{number:,}", sort=number, tone="alert" if alert and number else "")


def _importance(tuned: TunedAnswer) -> Table:
    arms = [budget for budget in tuned.budgets.arms if budget.importance]
    paths = tuned.budgets.tuning.paths
    columns = (Column(title="Arm"), *(Column(title=path.removeprefix("recipe."), kind="number") for path in paths))
    rows = tuple(
        (text(budget.arm, "strong"), *(_share(budget.importance.get(path, math.nan)) for path in paths))
        for budget in arms
    )
    count = tuned.budgets.tuning.trials
    note = (
        f"Shares of 1 by PED-ANOVA (Watanabe et al. 2023): how far the settings of the better quarter of {count} "
        "candidates differ from those of all. From so few it is a hint where to look, and no finding."
    )
    return Table(name="importance", caption="Which setting mattered", columns=columns, rows=rows, notes=(note,))


def _share(value: float) -> Cell:
    return Cell(text=fixed(value, 2), sort=value)
