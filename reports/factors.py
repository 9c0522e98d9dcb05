"""Two factors crossed, as a section: the cells, the effects, and what the interaction means."""

from __future__ import annotations

from collections.abc import Sequence

from ablations import ENDPOINT_WORDS
from reports.comparison import Comparison
from reports.crossing import Crossing, FactorEffect
from reports.numbers import bracketed, listed, plural, plus_minus
from reports.sections import Cell, Column, Section, Table, text

INTERACTION = "interaction"  # the figure that stands with the factors, not with the other figures


def crossed(comparison: Comparison, drawn: Sequence[str]) -> Section:
    """What each factor does on average, and whether one changes what the other does."""
    rows, columns = comparison.effects[0].factorial.rows, comparison.effects[0].factorial.columns
    paragraph = (
        f"Every combination of {rows.name} ({listed(rows.levels)}) and {columns.name} ({listed(columns.levels)}) is an "
        "arm. A main effect is averaged over the other factor; an interaction is how much more one factor does at one "
        "level of the other than at the other level. Its variance is twice that of a difference of two arms: to see an "
        "interaction takes twice the seeds."
    )
    return Section(
        name="crossed",
        title=f"Two factors crossed: {rows.name} and {columns.name}",
        paragraphs=(paragraph,),
        points=tuple(sentence for each in comparison.effects for sentence in each.sentences),
        tables=tuple(table for each in comparison.effects for table in (_cells(each), _effects(each))),
        figures=(INTERACTION,) if INTERACTION in drawn else (),
    )


def _cells(crossing: Crossing) -> Table:
    rows, columns = crossing.factorial.rows, crossing.factorial.columns
    unit = "%" if crossing.unit == "points" else crossing.unit
    what = ENDPOINT_WORDS[crossing.endpoint].capitalize() + (f", {unit}" if unit else "")
    cells = tuple(
        (
            text(level, "strong"),
            *(Cell(text=plus_minus(mean, crossing.digits), sort=mean.value) for mean in means),
        )
        for level, means in zip(rows.levels, crossing.means, strict=True)
    )
    return Table(
        name=f"cells-{crossing.endpoint}",
        caption=f"{what}, by {rows.name} and {columns.name}",
        columns=(
            Column(title=rows.name),
            *(Column(title=f"{columns.name}: {level}", kind="number") for level in columns.levels),
        ),
        rows=cells,
    )


def _effects(crossing: Crossing) -> Table:
    columns = (
        Column(title="Effect"),
        Column(title="Change"),
        Column(title=f"Lowers {ENDPOINT_WORDS[crossing.endpoint]} by", unit=crossing.unit, kind="number"),
        Column(title="Seeds", unit="complete"),
    )
    note = (
        f"Simultaneous 95% intervals, one family of {plural(len(crossing.effects), 'effect')}; positive where "
        f"{ENDPOINT_WORDS[crossing.endpoint]} falls. Shown without a verdict: claims read differences of two arms."
    )
    return Table(
        name=f"effects-{crossing.endpoint}",
        caption=f"Main effects and interaction in {ENDPOINT_WORDS[crossing.endpoint]}",
        columns=columns,
        rows=tuple(_effect(crossing, each) for each in crossing.effects),
        notes=(note, *_bundles(crossing)),
    )


def _bundles(crossing: Crossing) -> tuple[str, ...]:
    """That an effect belongs to all that its factor moves."""
    if not crossing.bundles:
        return ()
    return (f"Bundles, in some cells at least: {'; '.join(crossing.bundles)}. An effect belongs to all that moved.",)


def _effect(crossing: Crossing, effect: FactorEffect) -> tuple[Cell, ...]:
    return (
        text(effect.what, "strong"),
        text(effect.change),
        Cell(text=bracketed(effect.estimate, crossing.digits), sort=effect.estimate.value),
        Cell(
            text=f"{effect.pairs} of {effect.planned}",
            sort=effect.pairs,
            tone="alert" if effect.pairs < effect.planned else "",
        ),
    )
