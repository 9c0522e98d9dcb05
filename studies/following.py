"""`ablate status`: what a study's folder says of it, once or for as long as it runs."""

from __future__ import annotations

import time
from datetime import datetime

import click
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from studies import board
from studies.live import MOST_GROUPS, headline, screen, signs_of
from studies.settings import Settings, SettingsError
from studies.terminal import print_json, print_table

LOOK_EVERY_SECONDS = 1.0


def print_all(settings: Settings, *, as_json: bool) -> None:
    """A line for every study of the folder, the one planned last first.

    Raises:
        SettingsError: where there is none.
    """
    found = [board.read(folder, settings.trials) for folder in board.folders(settings)]
    if as_json:
        print_json({"studies": [board.as_data(each) for each in found]})
        return
    if not found:
        raise SettingsError(f"{settings.studies} knows of no study: nothing has been run with this folder yet.")
    print_table(
        ("study", "protocol", "trials ended", "state", "planned"),
        [
            (each.study, each.protocol, f"{sum(row.has_ended for row in each.rows)} of {len(each.rows)}", each.words,
             datetime.fromtimestamp(each.changed).strftime("%Y-%m-%d %H:%M"))
            for each in found
        ],
    )  # fmt: skip


def follow(settings: Settings, study: str, protocol: str | None, *, watch: bool, as_json: bool) -> bool:
    """Show a study, and with ``watch`` go on until it no longer runs; gives back whether the folder knows it."""
    found = board.find(settings, study, protocol)
    if found is None:
        return False
    if as_json:
        print_json(board.as_data(found))
        return True
    console = Console(markup=False, highlight=False)
    if watch and found.state == "running" and console.is_terminal:
        _watch(console, settings, found)
        found = board.find(settings, study, protocol) or found
    elif watch:
        found = _lines(settings, found)
    console.print(_shown(found, console))
    return True


def _shown(found: board.Board, console: Console, most_groups: int = 0) -> Group:
    rows = screen(found.rows, signs=signs_of(console), most_groups=most_groups)
    return Group(Text(headline(found), style="bold"), Text(), rows)


def _watch(console: Console, settings: Settings, found: board.Board) -> None:
    """Keep the screen up to date until the study no longer runs."""
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while found.state == "running":
            live.update(_shown(found, console, MOST_GROUPS), refresh=True)
            time.sleep(LOOK_EVERY_SECONDS)
            found = board.find(settings, found.study, found.protocol) or found


def _lines(settings: Settings, found: board.Board) -> board.Board:
    """Where there is no terminal: a line whenever a trial has begun or ended."""
    told = ""
    while found.state == "running":
        news = found.counted
        if news != told:
            click.echo(f"{datetime.now():%H:%M:%S} {news}")
            told = news
        time.sleep(LOOK_EVERY_SECONDS)
        found = board.find(settings, found.study, found.protocol) or found
    return found
