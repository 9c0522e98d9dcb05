"""Print a seed plan (`ablate plan`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reports.pages.seed_plan import SeedPlan


def print_plan(plan: SeedPlan, log: Callable[[str], None], print_table: Callable[..., None]) -> None:
    """Print the noise, the seeds per question with their cost, and what the seeds at hand can detect."""
    log(f"noise    {plan.noise_line}")
    log(f"family   {plan.family_line}\n")
    print_table(plan.header, plan.rows)
    for note in plan.notes:
        log(note)
