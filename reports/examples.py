"""Arms that test the same trained networks, example by example: under every seed, who errs where the other does not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from reports.limits import Wrong
from reports.numbers import Estimate, bracketed, fixed
from reports.sections import FOLDED_FROM, Cell, Column, Table, text
from reports.statistics.one_seed import TwoNetworks, two_networks
from studies.records import Registration

DIGITS = 2  # of a difference, points: its interval is over images


@dataclass(frozen=True, kw_only=True)
class SeedPair:
    """An arm and the baseline under one seed, on the same examples."""

    arm: str
    seed: int
    found: TwoNetworks


def seed_pairs(registration: Registration, wrong: dict[str, Wrong]) -> tuple[SeedPair, ...]:
    """Of every arm of which it or the baseline trains nothing, one pair per seed under which both have predictions."""
    return tuple(_pairs(registration, wrong))


def _pairs(registration: Registration, wrong: dict[str, Wrong]) -> Iterator[SeedPair]:
    baseline = registration.baseline
    for arm in registration.arms[1:]:
        if not {arm, baseline} & registration.tested.keys():
            continue
        for seed in registration.seeds:
            if seed in wrong[arm] and seed in wrong[baseline]:
                yield SeedPair(arm=arm, seed=seed, found=two_networks(wrong[baseline][seed], wrong[arm][seed]))


def examples_table(pairs: tuple[SeedPair, ...], baseline: str) -> Table:
    """Discordant examples, their difference and McNemar's test, arm by arm and seed by seed."""
    rows = tuple(
        (
            text(pair.arm, "strong"),
            Cell(text=str(pair.seed), sort=pair.seed),
            Cell(text=f"{pair.found.over_only:,}", sort=pair.found.over_only),
            Cell(text=f"{pair.found.arm_only:,}", sort=pair.found.arm_only),
            Cell(text=bracketed(_difference(pair), DIGITS), sort=pair.found.difference),
            Cell(text=_probability(pair.found.p_mid), sort=pair.found.p_mid),
        )
        for pair in pairs
    )
    columns = (
        Column(title="Arm"),
        Column(title="Seed", kind="number"),
        Column(title=f"Only {baseline} errs", unit="examples", kind="number"),
        Column(title="Only the arm errs", unit="examples", kind="number"),
        Column(title=f"Lower than {baseline} by", unit="points", kind="number"),
        Column(title="McNemar's p", kind="number"),
    )
    notes = (
        "Both predictions of a row are of one seed and of the same test examples. The interval is over examples, 95%, "
        "for that seed's networks alone, and p is McNemar's mid-p, two-sided, not corrected for the number of rows. "
        "What holds of the method is told over seeds, above.",
    )
    return Table(
        name="examples",
        caption="Example by example, under every seed",
        columns=columns,
        rows=rows,
        notes=notes,
        folded=len(rows) > FOLDED_FROM,
    )


def _difference(pair: SeedPair) -> Estimate:
    return Estimate(value=pair.found.difference, low=pair.found.low, high=pair.found.high)


def _probability(value: float) -> str:
    return "< 0.001" if value < 0.001 else fixed(value, 3)
