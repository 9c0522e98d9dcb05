"""Options that choose a study's interim analyses by a maximum number of seeds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import Any, TypeVar

import click

from studies.cli.common.number_ranges import IntegerRange
from studies.cli.common.options import StudyOptions
from studies.design.study import MAX_NUM_SEEDS, default_interim_seeds

Command = TypeVar("Command", bound=Callable[..., Any])


def interim_options(command: Command) -> Command:
    """Add ``--until-resolved`` and ``--max-seeds`` below ``study_options``, whose interim analyses they set."""

    @click.option("--until-resolved", is_flag=True, help="Add seeds until every claim is resolved, up to --max-seeds.")
    @click.option(
        "--max-seeds",
        type=IntegerRange(2, MAX_NUM_SEEDS),
        metavar="N",
        help="Maximum number of seeds of --until-resolved, with up to three interim analyses.",
    )
    @wraps(command)
    def call_command(options: StudyOptions, until_resolved: bool, max_seeds: int | None, **values: Any) -> Any:
        return command(options=_resolve_interim_analyses(options, until_resolved, max_seeds), **values)

    decorated: Command = call_command  # type: ignore[assignment]  # click keeps no types of what it decorates
    return decorated


def _resolve_interim_analyses(options: StudyOptions, until_resolved: bool, max_seeds: int | None) -> StudyOptions:
    """Replace ``--until-resolved`` by the interim analyses that it stands for."""
    if not until_resolved and not max_seeds:
        return options
    # --seeds and --looks each fix a number of seeds, which would contradict the analyses derived from --max-seeds.
    if not (until_resolved and max_seeds) or options.looks or options.seeds:
        raise click.UsageError("--until-resolved needs --max-seeds N, and excludes --seeds and --looks.")
    return replace(options, looks=default_interim_seeds(max_seeds))
