"""A preview as text: what ``ablate show`` prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from ablations import PROPERTY_WORDS
from studies.records import chain_of
from studies.terminal import print_table

UNKNOWN = "unknown"


def print_preview(shown: Mapping[str, Any]) -> None:
    """Arms with their properties, contrasts, changes, what is held, claims, trials, time."""
    click.echo(f"{shown['question']}\n")
    _print_arms(shown["arms"])
    _print_contrasts(shown)
    for arm, row in shown["arms"].items():
        if row["changes"]:
            click.echo(f"{arm} changes  " + "; ".join(row["changes"]))
    for path, reason in shown["forced"].items():
        click.echo(f"forced   {path}: {reason}")
    _print_donors(shown)
    _print_tested(shown)
    for arm, row in shown["arms"].items():
        for sentence in row["unknown"]:
            click.echo(f"unknown  {arm}: {sentence}")
    click.echo(f"held     {len(shown['held'])} settings: " + ", ".join(f"{k}={v}" for k, v in shown["held"].items()))
    for sentence in shown["claims"]:
        click.echo(f"claim    {sentence}")
    arms, seeds = len(shown["arms"]), len(shown["seeds"])
    tested = {name for names in shown["tested"].values() for name in names}
    donors = len({*shown["donors"].values(), *tested} - {*shown["arms"]})
    also = f" and {donors} donors" if donors > 1 else " and a donor" if donors else ""
    click.echo(f"trials   {shown['trials']}: {arms} arms{also} x {seeds} seeds {shown['seeds']}")
    _print_design(shown)
    about = UNKNOWN if shown["minutes"] is None else f"about {shown['minutes']:.1f} minutes"
    click.echo(f"time     {about} on this machine's {shown['workers']} CPU cores")
    if shown["detectable"]:
        click.echo(
            f"power    4 times in 5, these seeds find a true difference to {shown['baseline']} of "
            f"{shown['detectable']:.2f} standard deviations of a paired difference"
        )


def _print_donors(shown: Mapping[str, Any]) -> None:
    """What the arms start from; a donor that starts from another one in the line of the arm."""
    for arm in shown["donors"]:
        if arm not in shown["arms"] and arm in shown["donors"].values():
            continue
        first, *before = chain_of(arm, shown["donors"])
        first = first if first in shown["arms"] else "its donor"
        starts = "".join(
            f", which starts from {name if name in shown['arms'] else 'a donor of its own'}" for name in before
        )
        charged = "all charged to it" if before else "and charged to it"
        click.echo(f"donor    {arm} starts from {first}{starts}, trained before it under the same seed, {charged}")


def _print_tested(shown: Mapping[str, Any]) -> None:
    """Which networks the arms that train nothing test; arms that test the same ones in one line."""
    arms_of: dict[tuple[str, ...], list[str]] = {}
    for arm, names in shown["tested"].items():
        arms_of.setdefault(tuple(names), []).append(arm)
    for names, arms in arms_of.items():
        told = " and ".join(name if name in shown["arms"] else "a network trained for it" for name in names)
        verb = "tests" if len(arms) == 1 else "test"
        click.echo(f"tested   {', '.join(arms)} {verb} {told}, under the same seed, and train nothing")


def _print_design(shown: Mapping[str, Any]) -> None:
    """How the study is tuned and when it looks, where it does."""
    tuning = shown["tuning"]
    if tuning:
        each = sorted(set(tuning["epochs"].values()))
        epochs = f"{each[0]:,} epochs" if len(each) == 1 else f"{each[0]:,} to {each[-1]:,} epochs"
        seeds = ", ".join(map(str, tuning["seeds"]))
        click.echo(f"tuning   per arm, {tuning['budget']}; {epochs} under seed {seeds}; then every seed again")
    if shown["looks"]:
        click.echo(f"looks    after {', '.join(map(str, shown['looks']))} seeds; the study stops when all is resolved")


def _print_arms(arms: Mapping[str, Mapping[str, Any]]) -> None:
    header = ("arm", *PROPERTY_WORDS.values(), "seconds per trial")
    rows = []
    for arm, row in arms.items():
        found = (row["properties"].get(name) for name in PROPERTY_WORDS)
        seconds = UNKNOWN if row["seconds"] is None else f"{row['seconds']:.0f}"
        rows.append((arm, *(UNKNOWN if value is None else f"{value:,}" for value in found), seconds))
    print_table(header, rows)


def _print_contrasts(shown: Mapping[str, Any]) -> None:
    rows = [
        (arm, *_contrast(row["contrast"]), row["parts"])
        for arm, row in shown["arms"].items()
        if arm != shown["baseline"]
    ]
    print_table((f"against {shown['baseline']}", "contrast", "moved by more than 5%", "modules that differ"), rows)
    if shown["property_studied"]:
        click.echo(f"studied  {PROPERTY_WORDS[shown['property_studied']]}")


def _contrast(found: Mapping[str, Any]) -> tuple[str, str]:
    moved = [f"{PROPERTY_WORDS[each['name']]} {each['before']:,} -> {each['after']:,}" for each in found["moved"]]
    unknown = [f"{PROPERTY_WORDS[name]} not known" for name in found["unknown"]]
    forced = [f"{path}, forced with it" for path in found["forced"]]
    clean = "clean, as far as known" if unknown else "clean"
    return clean if found["clean"] else "bundle", "; ".join([*moved, *forced, *unknown]) or "nothing"
