"""What a shell offers for a word of a command: ablations, protocols, networks, studies, settings, arms.

Every function takes what click gives to ``shell_complete``, and loads no framework: a shell waits for the answer.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, get_args

import click
from click.shell_completion import CompletionItem

import ablations
from ablations import Ablation
from lightning_modules.catalogue import NETWORKS
from lightning_modules.specs.errors import UserError
from lightning_modules.specs.setup import Setup
from lightning_modules.specs.values import Leaf, annotation_at, flatten_fields
from studies import protocols
from studies.settings import Settings

Items = list["CompletionItem"]


def complete_ablation(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """Offer the names of ablations; for the start of a path, or of no name, files."""
    del ctx, param
    return _offer(ablations.names(), incomplete) or [CompletionItem(incomplete, type="file")]


def complete_study(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """Offer the names of ablations and of the studies in the runs folder."""
    del param
    names = {*ablations.names(), *_recorded_studies(ctx.params)}
    return _offer(sorted(names), incomplete) or [CompletionItem(incomplete, type="file")]


def complete_protocol(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """Offer the names of protocols."""
    del ctx, param
    return _offer(protocols.names(), incomplete)


def complete_network(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """Offer the catalogue's networks and ablations; after ``depth/``, that ablation's arms."""
    del ctx, param
    ablation, slash, _ = incomplete.partition("/")
    if slash and ablation in ablations.names():
        arms = ablations.load(ablation).all_arms
        return _offer([f"{ablation}/{arm.name}" for arm in arms], incomplete)
    return _offer([*NETWORKS, *ablations.names()], incomplete)


def complete_networks_list(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """Offer the catalogue's networks for the last one of a list: ``vgg-a,vgg-b``."""
    del ctx, param
    earlier, comma, _ = incomplete.rpartition(",")
    return _offer([f"{earlier}{comma}{name}" for name in NETWORKS], incomplete)


def complete_arm(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """Offer the arms of the ablation that the command names."""
    del param
    ablation = _named_ablation(ctx)
    return _offer([arm.name for arm in ablation.all_arms], incomplete) if ablation else []


def complete_setting(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """Offer the paths of settings, and after the equals sign the values of one.

    The settings are those of the command's protocol and of its ablation's baseline, without what the ablation varies
    or a placebo sets.
    """
    del param
    setup, varied = _named_setup(ctx)
    path, equals, _ = incomplete.partition("=")
    leaves = flatten_fields(setup, with_omitted=True)
    if equals:
        return _offer([f"{path}={value}" for value in _values_of(setup, path, leaves)], incomplete)
    items = []
    for known, value in leaves.items():
        is_free = not any(ablations.paths_overlap(known, other) for other in (*varied, *ablations.REDRAW_PATHS))
        if is_free and known.startswith(incomplete):
            items.append(CompletionItem(f"{known}=", help=f"now {value}"))
    return items


def _offer(values: Iterable[str], incomplete: str) -> Items:
    return [CompletionItem(value) for value in values if value.startswith(incomplete)]


def _recorded_studies(params: Mapping[str, Any]) -> set[str]:
    """Names of the studies whose folders lie in the runs folder: ``depth`` of ``depth-1f2e3d4c``."""
    runs_folder = params.get("runs") or os.environ.get("ABLATE_RUNS") or "runs"
    folder = Settings.from_environment(runs_folder).studies_folder
    return {path.name.rpartition("-")[0] for path in folder.glob("*-*") if path.is_dir()}


def _named_ablation(ctx: click.Context) -> Ablation | None:
    """The ablation that a command names; ``None`` for a user's file, whose imports may take seconds."""
    # While an option waits for its value, click leaves the words before it in ``args``.
    for name in (*ctx.args, ctx.params.get("name")):
        if name in ablations.names():
            return ablations.load(name)
    return None


def _named_setup(ctx: click.Context) -> tuple[Setup, tuple[str, ...]]:
    """The setup that a command's settings change, and the paths that its ablation varies itself."""
    name = ctx.params.get("protocol")
    protocol = protocols.load(name if name in protocols.names() else protocols.DEFAULT_PROTOCOL)
    ablation = _named_ablation(ctx)
    if ablation is None:
        return protocol.setup, ()
    return ablation.baseline.apply(protocol.setup), (*ablation.varies, *ablation.forced)


def _values_of(setup: Setup, path: str, leaves: Mapping[str, Leaf]) -> list[str]:
    """The values that a setting admits; the present one where they are no short list."""
    try:
        annotation = annotation_at(setup, path)
    except UserError:
        return []
    if annotation is bool:
        return ["true", "false"]
    choices = [str(choice) for choice in get_args(annotation) if isinstance(choice, str)]
    return choices or ([str(leaves[path])] if path in leaves else [])
