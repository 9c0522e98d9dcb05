"""Render a report as one self-contained page that fetches nothing."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from reports.comparison.comparison import Comparison
from reports.content.report import VERDICT_SYMBOLS, report_sections, study_facts
from reports.figures.style import Figure


def render_report(comparison: Comparison, figures: Sequence[Figure]) -> str:
    """Render the page."""
    return load_template("page.html.j2").render(
        comparison=comparison,
        registration=comparison.registration,
        facts=study_facts(comparison),
        sections=report_sections(comparison, figures),
        figures={figure.name: figure for figure in figures},
        symbols=VERDICT_SYMBOLS,
    )


@lru_cache
def load_template(name: str) -> Template:
    """Load a template by its file's name; text is escaped in it."""
    # StrictUndefined: a misspelt variable in a template raises, instead of leaving a gap on the page.
    environment = Environment(
        loader=PackageLoader("reports.renderers"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["slug"] = _slugify
    return environment.get_template(name)


def _slugify(word: str) -> str:
    """Make a CSS class of a verdict."""
    return word.replace(" ", "-")
