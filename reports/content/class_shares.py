"""Class shares of the data, and what a constant answer would get."""

from __future__ import annotations

from collections.abc import Mapping

from lightning_modules.specs.text import format_count
from reports.analysis.chance import ConstantAnswer
from reports.comparison.comparison import Comparison
from reports.document import Cell, Column, Row, Table, text_cell
from reports.formatting import format_fixed

MAX_CLASSES = 20  # listed; of more classes, the largest and the smallest ones


def describe_constant_answer(constant: ConstantAnswer) -> str:
    """The test errors of a constant answer, for the study's facts."""
    text = f"{format_fixed(constant.error, 1)}% test error, by always answering the largest class"
    num_present = sum(count > 0 for count in constant.counts)
    if num_present < 2:
        return text
    if len(set(constant.counts)) == 1:
        return f"{text}; each of {num_present} classes has the same share"
    balanced = format_fixed(100 * (1 - 1 / num_present), 1)
    return f"{text}; {balanced}% balanced error"


def class_shares_table(comparison: Comparison) -> Table:
    """Examples of each class in the training and test splits, the largest class first."""
    counts = dict(comparison.registration.class_counts)
    if not counts and comparison.constant_answer:  # a record of an earlier version: its test labels alone are known
        counts = {str(index): {"test": count} for index, count in enumerate(comparison.constant_answer.counts)}
    splits = [split for split in ("train", "test") if any(split in by_split for by_split in counts.values())]
    totals = {split: sum(by_split.get(split, 0) for by_split in counts.values()) for split in splits}
    if all(len({by_split.get(split, 0) for by_split in counts.values()}) == 1 for split in splits):
        counts = {}  # equal shares: the study's facts say so
    names = sorted(counts, key=lambda name: -counts[name].get("test", 0))
    notes = ["Balanced error, which a claim may take as its endpoint, gives every class the same weight."]
    if len(names) > MAX_CLASSES:
        half = MAX_CLASSES // 2
        notes.append(f"Of {format_count(len(names), 'class', 'classes')}, the {half} largest and the {half} smallest.")
        names = [*names[:half], *names[-half:]]
    columns = [Column(title="Class")]
    for split in splits:
        columns.append(Column(title=f"{split.capitalize()} examples", kind="number"))
        columns.append(Column(title=f"Share of {split}", unit="%", kind="number"))
    return Table(
        name="classes",
        caption="Class shares",
        columns=tuple(columns),
        rows=tuple(_class_row(name, counts[name], totals) for name in names),
        notes=tuple(notes),
        folded=True,
    )


def _class_row(name: str, counts: Mapping[str, int], totals: Mapping[str, int]) -> Row:
    cells = [text_cell(name, "strong")]
    for split, total in totals.items():
        count = counts.get(split, 0)
        share = 100 * count / max(1, total)
        cells += [Cell(text=f"{count:,}", sort=count), Cell(text=format_fixed(share, 1), sort=share)]
    return tuple(cells)
