"""Command ``ablate choose``: the arm of least error within a budget."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

import click

from lightning_modules.specs.text import join_words
from studies.cli.common.completers import complete_study
from studies.cli.common.options import format_examples, json_option, protocol_option, run_id_option, settings_options
from studies.cli.common.parameters import QuantityParam
from studies.cli.reporting.reports import read_study
from studies.console.tables import print_result, print_table
from studies.latency.measurement import PERCENTILES, Percentile

if TYPE_CHECKING:
    from reports.comparison.choice import ArmChoice, Quantity
    from studies.records.study_record import StudyRecord
    from studies.settings import Settings

EXIT_OPEN, EXIT_NOTHING = 20, 30  # as `ablate gate` exits where a claim is inconclusive, and where none is judged
COUNT_UNITS = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
TIME_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6}
BYTE_UNITS = {
    "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30, "TiB": 2.0**40, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12,
}  # fmt: skip


@click.command(
    epilog=format_examples(
        "ablate choose depth --latency 5ms",
        "ablate choose depth --multiply-adds 1G --parameters 10M",
        "ablate choose depth --memory 2GiB --json",
    )
)
@click.argument("name", shell_complete=complete_study)
@protocol_option
@click.option(
    "--latency",
    type=QuantityParam(TIME_UNITS, "5ms"),
    metavar="TIME",
    help="Largest latency (5ms) at batch size 1, which `ablate latency` measures.",
)
@click.option(
    "--percentile",
    type=click.Choice(PERCENTILES),
    default="p50",
    show_default=True,
    help="Percentile of the latency that --latency limits.",
)
@click.option(
    "--multiply-adds",
    type=QuantityParam(COUNT_UNITS, "1G"),
    metavar="N",
    help="Most multiply-adds (1G) of one forward pass of one image.",
)
@click.option(
    "--parameters", type=QuantityParam(COUNT_UNITS, "10M"), metavar="N", help="Most parameters (10M) of the network."
)
@click.option(
    "--memory", type=QuantityParam(BYTE_UNITS, "2GiB"), metavar="SIZE", help="Largest peak memory (2GiB) in training."
)
@run_id_option
@settings_options()
@json_option
def choose(
    name: str,
    protocol: str,
    percentile: str,
    run_id: str | None,
    settings: Settings,
    as_json: bool,
    **limits: float | None,
) -> None:
    """Name the arm of least test error within a budget, and the arms that cannot be told apart from it.

    With 95% confidence the best arm within the budget is among those named. An arm is within a budget by the median of
    what was measured. Without a budget, all arms are candidates.

    \b
    Exit codes:
       0  chosen: no other arm within the budget may be better, or none by the smallest effect of interest
      20  several cannot be told apart: more seeds are needed
      30  no arm is within the budget, or none has learned
       2  wrong usage or no such study; 1 any other error
    """  # noqa: D301 - click keeps the lines of a paragraph that begins with a backspace
    from reports.comparison.choice import QUANTITIES, Budget, choose_arm

    record = read_study(name, protocol, settings, run_id)
    budgets = []
    for quantity in QUANTITIES:
        limit = limits[quantity]
        if limit is not None:
            budgets.append(Budget(quantity=quantity, limit=limit))
    # Else every arm would be without a latency, and none within the budget.
    if limits["latency"] is not None and record.latency is None:
        study = record.registration.study
        raise click.UsageError(f"The latency of {study} was not measured; `ablate latency {study}` does it.")
    choice = choose_arm(record, budgets, cast("Percentile", percentile))
    if as_json:
        print_result("choice", _describe(choice, record, percentile))
    else:
        _print_choice(choice, record, percentile)
    # A pipeline acts on the code alone, as it does on that of `ablate gate`.
    code = EXIT_NOTHING if choice.chosen is None else 0 if choice.is_settled else EXIT_OPEN
    click.get_current_context().exit(code)


def _print_choice(choice: ArmChoice, record: StudyRecord, percentile: str) -> None:
    """Print the choice, its candidates, and the other arms with the reason."""
    click.echo(_describe_choice(choice, percentile))
    shown = [budget.quantity for budget in choice.budgets]
    rows = []
    for candidate in choice.candidates:
        bound = "unknown" if math.isinf(candidate.excess_bound) else f"{candidate.excess_bound:.2f}"
        costs = [_format_amount(quantity, candidate.costs[quantity].median) for quantity in shown]
        rows.append((candidate.name, f"{candidate.error.value:.2f} %", bound, candidate.standing, *costs))
    if rows:
        click.echo()
        labels = [_label(quantity, percentile) for quantity in shown]
        print_table(("arm", "test error", "above the best by at most, points", "standing", *labels), rows)
    for arm, reason in choice.excluded.items():
        click.echo(f"no candidate: {arm}, {reason}")
    for candidate in choice.candidates:
        for quantity in candidate.straddles:
            click.echo(
                f"near the limit: {candidate.name}, {_label(quantity, percentile)} above it in some measurements"
            )
    if "latency" in shown and record.latency:
        click.echo(f"latency measured on {record.latency.hardware}")
        for sentence in record.latency.disturbances:
            click.echo(f"Warning: latency was measured on a busy machine. {sentence}", err=True)


def _describe_choice(choice: ArmChoice, percentile: str) -> str:
    """The choice, and how sure it is, in sentences."""
    chosen = choice.chosen
    if chosen is None:
        return choice.obstacle
    limits = [
        f"{_label(budget.quantity, percentile)} at most {_format_amount(budget.quantity, budget.limit)}"
        for budget in choice.budgets
    ]
    within = f" within the budget ({join_words(limits)})" if limits else ""
    sentence = f"{chosen.name} has the least test error{within}: {chosen.error.value:.2f} %."
    others = [name for name in choice.possibly_best if name != chosen.name]
    confidence = f"With {100 * (1 - choice.alpha):.3g} % confidence"
    if len(choice.candidates) == 1:
        return f"{sentence} No other arm is a candidate."
    if not others:
        return f"{sentence} {confidence}, every other candidate has a higher error."
    seeds = "one seed" if choice.num_seeds == 1 else f"these {choice.num_seeds} seeds"
    sentence += f" {join_words(others)} cannot be told apart from it with {seeds}."
    if math.isinf(chosen.excess_bound):
        return f"{sentence} It takes three seeds that all candidates share to bound what a choice may cost."
    excess = f"the error of {chosen.name} is at most {chosen.excess_bound:.2f} points above that of the best"
    if choice.is_settled:
        return (
            f"{sentence} {confidence}, {excess}: less than the smallest effect of interest, {choice.smallest_effect:g}."
        )
    names = join_words(choice.possibly_best)
    return f"{sentence} {confidence}, the best arm is one of {names}, and {excess}."


def _label(quantity: Quantity, percentile: str) -> str:
    from reports.comparison.choice import QUANTITY_LABELS

    return f"{percentile.upper()} of latency" if quantity == "latency" else QUANTITY_LABELS[quantity]


def _format_amount(quantity: Quantity, value: float) -> str:
    """Format a cost below a heading that names it."""
    from reports.comparison.choice import format_cost

    text = format_cost(quantity, value)
    return text.rpartition(" ")[0] if quantity in ("multiply_adds", "parameters") else text


def _describe(choice: ArmChoice, record: StudyRecord, percentile: str) -> dict[str, Any]:
    chosen = choice.chosen
    candidates = []
    for candidate in choice.candidates:
        costs = {quantity: spread.median for quantity, spread in candidate.costs.items() if spread.values}
        candidates.append(
            {
                "arm": candidate.name,
                "error": candidate.error.value,
                "low": _finite(candidate.error.low),
                "high": _finite(candidate.error.high),
                "standing": candidate.standing,
                "excess_bound": _finite(candidate.excess_bound),
                "costs": costs,
                "near_limit": list(candidate.straddles),
            }
        )
    return {
        "study": record.registration.study,
        "protocol": record.registration.protocol,
        "budget": {budget.quantity: budget.limit for budget in choice.budgets},
        "percentile": percentile,
        "confidence": 1 - choice.alpha,
        "seeds": choice.num_seeds,
        "smallest_effect": choice.smallest_effect,
        "chosen": chosen.name if chosen else None,
        "possibly_best": list(choice.possibly_best) if chosen else [],
        "settled": choice.is_settled,
        "obstacle": choice.obstacle,
        "candidates": candidates,
        "no_candidates": dict(choice.excluded),
        "disturbances": list(record.latency.disturbances) if record.latency else [],
    }


def _finite(value: float) -> float | None:
    # JSON has no infinity: it is the bound where one seed tells nothing of the noise.
    return value if math.isfinite(value) else None


COMMANDS = (choose,)
