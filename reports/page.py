"""The report as one self-contained page: no script, style, font or picture is fetched from anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from reports.comparison import Comparison
from reports.content import SYMBOLS, facts, sections
from reports.drawing import Figure


def render(comparison: Comparison, figures: Sequence[Figure]) -> str:
    """The page as text."""
    return template("page.html.j2").render(
        comparison=comparison,
        registration=comparison.registration,
        facts=facts(comparison),
        sections=sections(comparison, figures),
        figures={figure.name: figure for figure in figures},
        symbols=SYMBOLS,
    )


@lru_cache
def template(name: str) -> Template:
    """A template by its file's name; whatever it is given as text stays text."""
    environment = Environment(
        loader=PackageLoader("reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["slug"] = _slug
    return environment.get_template(name)


def _slug(word: str) -> str:
    return word.replace(" ", "-")
