"""Command `ablate show`: what a study would train, before anything is spent."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click

from studies.cli.common.completers import complete_ablation
from studies.cli.common.interim_options import interim_options
from studies.cli.common.options import StudyOptions, format_examples, json_option, settings_options, study_options
from studies.console.tables import print_json

if TYPE_CHECKING:
    from studies.design.study import Study
    from studies.settings import Settings


@click.command(epilog=format_examples("ablate show depth", "ablate show depth --protocol cifar10 --seeds 5"))
@click.argument("name", shell_complete=complete_ablation)
@study_options
@interim_options
@settings_options(data_root=True)
@json_option
def show(name: str, options: StudyOptions, settings: Settings, as_json: bool) -> None:
    """Preview a study: arms, changes, trials, estimated time.

    Also prints the settings that are held and the claims. Nothing is trained.

    NAME is an ablation, or the path of its file: ./my_ablation.py.
    """
    from studies.console.progress import show_activity

    study = options.declare_study(name)
    activity = f"building and timing the networks of {len(study.ablation.all_arms)} arms"
    with show_activity(activity, only_on_terminal=as_json) as update:
        # Frameworks take seconds to import, and each network is timed: 40 take half a minute.
        from studies.console.preview import print_preview
        from studies.design.preview import preview_study, preview_to_json

        preview = preview_study(study, settings.data_root, log=update)
        preview = replace(preview, detectable_difference=_detectable_difference(study))
    if as_json:
        print_json(preview_to_json(preview))
        return
    print_preview(preview)


def _detectable_difference(study: Study) -> float | None:
    """Smallest detectable difference at 80 % power, in SD of a paired difference; ``None`` with a single seed."""
    from reports.comparison.seed_planning import family_design
    from reports.statistics import detectable_difference

    if len(study.seeds) < 2 or len(study.ablation.all_arms) < 2:
        return None
    return detectable_difference(len(study.seeds), family_design(study))


COMMANDS = (show,)
