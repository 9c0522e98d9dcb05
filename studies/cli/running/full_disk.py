"""What to do about a full disk, as the last line of a command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from studies.storage.machine_limits import describe_full_disk, is_full_disk

if TYPE_CHECKING:
    from studies.design.study import Study
    from studies.settings import Settings


@contextmanager
def explain_full_disk(study: Study, settings: Settings) -> Iterator[None]:
    """After an error of a full disk, say what to do in the last line."""
    try:
        yield
    except Exception as error:
        if not is_full_disk(error) or click.get_current_context().find_root().params.get("debug"):
            raise
        click.echo(f"Error: {error}", err=True)
        raise click.ClickException(describe_full_disk(settings, _num_trials_left(study, settings))) from error


def _num_trials_left(study: Study, settings: Settings) -> int:
    """Trials without a result; one where all have one, as it is the tracking store that is left."""
    ended = {file.parent.name.partition("-")[0] for file in settings.trials_folder.glob("*-*/result.json")}
    return max(1, sum(trial.fingerprint not in ended for trial in study.trials()))
