"""Print the preview of a study: the text of ``ablate show``."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import click

from ablations import PROPERTY_LABELS, PropertyContrast
from studies.console.tables import print_table
from studies.design.preview import ArmPreview, DesignPreview, StudyPreview, TuningPreview
from studies.records.registration import source_chain_of

UNKNOWN = "unknown"


def print_preview(preview: StudyPreview) -> None:
    """Print arms with their properties, contrasts, changes, held settings, claims, trials and time."""
    click.echo(f"{preview.question}\n")
    _print_arms(preview.arms)
    _print_contrasts(preview)
    _print_changes(preview)
    for path, reason in preview.forced.items():
        click.echo(f"forced   {path}: {reason}")
    _print_warm_starts(preview.arms, preview.source_arms)
    _print_evaluations(preview)
    for name, arm in preview.arms.items():
        for sentence in arm.unknowns:
            click.echo(f"unknown  {name}: {sentence}")
        for sentence in arm.notes:
            click.echo(f"note     {name}: {sentence}")
        if arm.failure:
            click.echo(f"fails    {name}: {arm.failure}")
    _print_held(preview.held)
    for sentence in preview.claims:
        click.echo(f"claim    {sentence}")
    _print_num_trials(preview)
    if preview.tuning:
        _print_tuning(preview.tuning)
    if preview.looks:
        counts = ", ".join(map(str, preview.looks))
        click.echo(f"looks    interim analyses after {counts} seeds; the study stops when every claim is resolved")
    duration = UNKNOWN if preview.seconds is None else f"about {preview.seconds / 60:.1f} minutes"
    click.echo(f"time     {duration} on this machine's {preview.num_workers} CPU cores")
    if preview.detectable_difference:
        click.echo(
            f"power    smallest true difference between two arms that {len(preview.seeds)} seeds find in 80% of "
            f"studies: {preview.detectable_difference:.2f} standard deviations of a paired difference"
        )


def _print_changes(preview: StudyPreview) -> None:
    """Print what each arm changes; of a generated design, what each component changes."""
    if preview.design:
        _print_design(preview.design)
        return
    for name, arm in preview.arms.items():
        if arm.changes:
            click.echo(f"{name} changes  " + "; ".join(arm.changes))


def _print_design(preview: DesignPreview) -> None:
    """Print the components in their order, each with what changes between the arm without it and the arm with it."""
    click.echo(f"design   {preview.design.title}, {len(preview.design.contrasts)} components:")
    for number, contrast in enumerate(preview.design.contrasts, start=1):
        changes = "; ".join(preview.changes[contrast.component])
        click.echo(f"{number:6}.  {contrast.component}, from {contrast.over} to {contrast.arm}: {changes}")


def _print_held(held: Mapping[str, object]) -> None:
    """Print the settings that all arms share, a line per group: network, recipe, data and so on."""
    groups: dict[str, list[str]] = {}
    for path, value in held.items():
        group, _, setting = path.partition(".")
        groups.setdefault(group, []).append(f"{setting}={value}")
    click.echo(f"held     {len(held)} settings, the same in every arm:")
    for group, settings in groups.items():
        click.echo(f"         {group}: {', '.join(settings)}")


def _print_num_trials(preview: StudyPreview) -> None:
    names = {*preview.source_arms.values()}
    for evaluated in preview.evaluated_arms.values():
        names.update(evaluated)
    num_extra = len(names - {*preview.arms})  # trained for the arms, and no arms themselves
    if num_extra == 0:
        extra = ""
    elif num_extra == 1:
        extra = " and 1 network trained for them"
    else:
        extra = f" and {num_extra} networks trained for them"
    num_arms, num_seeds = len(preview.arms), len(preview.seeds)
    click.echo(f"trials   {preview.num_trials}: {num_arms} arms{extra} x {num_seeds} seeds {list(preview.seeds)}")


def _print_warm_starts(arms: Collection[str], source_arms: Mapping[str, str]) -> None:
    """Print what the arms start from; the chain of a source network on the line of its arm."""
    for name in source_arms:
        is_source_only = name not in arms and name in source_arms.values()
        if is_source_only:
            continue
        first, *earlier = source_chain_of(name, source_arms)
        chain = first if first in arms else "its source network"
        for source in earlier:
            chain += f", which starts from {source if source in arms else 'a source network of its own'}"
        cost = "all charged to it" if earlier else "and charged to it"
        click.echo(f"source   {name} starts from {chain}, trained first under the same seed, {cost}")


def _print_evaluations(preview: StudyPreview) -> None:
    """Print the evaluated networks, arms that evaluate the same ones on one line."""
    arms_by_networks: dict[tuple[str, ...], list[str]] = {}
    for arm, names in preview.evaluated_arms.items():
        arms_by_networks.setdefault(names, []).append(arm)
    for names, arms in arms_by_networks.items():
        networks = " and ".join(name if name in preview.arms else "a network trained for it" for name in names)
        verb = "evaluates" if len(arms) == 1 else "evaluate"
        click.echo(f"tested   {', '.join(arms)} {verb} {networks}, under the same seed, and train nothing")


def _print_tuning(tuning: TuningPreview) -> None:
    lowest, highest = min(tuning.epochs.values()), max(tuning.epochs.values())
    epochs = f"{lowest:,} epochs" if lowest == highest else f"{lowest:,} to {highest:,} epochs"
    seeds = ", ".join(map(str, tuning.seeds))
    click.echo(
        f"tuning   per arm, {tuning.budget}; {epochs} under seed {seeds}; then every seed under the tuned recipe"
    )


def _print_arms(arms: Mapping[str, ArmPreview]) -> None:
    header = ("arm", *PROPERTY_LABELS.values(), "seconds per trial")
    rows = []
    for name, arm in arms.items():
        cells = [name]
        for property_name in PROPERTY_LABELS:
            value = arm.properties.get(property_name)
            cells.append(UNKNOWN if value is None else f"{value:,}")
        cells.append(UNKNOWN if arm.seconds is None else f"{arm.seconds:.0f}")
        rows.append(tuple(cells))
    print_table(header, rows)


def _print_contrasts(preview: StudyPreview) -> None:
    rows = [
        (name, *_format_contrast(arm.contrast), arm.num_different_modules)
        for name, arm in preview.arms.items()
        if name != preview.baseline
    ]
    print_table((f"against {preview.baseline}", "contrast", "changed by more than 5%", "modules that differ"), rows)
    if preview.property_studied:
        click.echo(f"studied  {PROPERTY_LABELS[preview.property_studied]}")


def _format_contrast(contrast: PropertyContrast) -> tuple[str, str]:
    """Format whether a contrast is confounded, and by what."""
    changes = []
    for change in contrast.changed:
        changes.append(f"{PROPERTY_LABELS[change.name]} {change.before:,} -> {change.after:,}")
    changes += [f"{path}, forced with it" for path in contrast.forced]
    changes += [f"{PROPERTY_LABELS[name]} not known" for name in contrast.unmeasured]
    if not contrast.is_unconfounded:
        verdict = "confounded"
    elif contrast.unmeasured:
        verdict = "unconfounded, as far as known"
    else:
        verdict = "unconfounded"
    return verdict, "; ".join(changes) or "nothing"
