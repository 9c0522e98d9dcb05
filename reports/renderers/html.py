"""Render a report as one self-contained page that fetches nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import lru_cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from reports.comparison.comparison import Comparison
from reports.content.links import claim_anchor, claim_links
from reports.content.report import VERDICT_SYMBOLS, report_sections, study_facts
from reports.document import Section
from reports.figures.seeds import DECISIVE_FIGURE
from reports.figures.style import Figure, Panel
from reports.formatting import further_reason

MAX_ROWS_BEFORE_CLAIMS = 12  # a taller figure stands below the claims, which it would push off the first screen


def render_report(comparison: Comparison, figures: Sequence[Figure]) -> str:
    """Render the page."""
    figure_names = [figure.name for figure in figures]
    sections = tuple(section for section in report_sections(comparison, figures) if not section.is_empty)
    # A single claim is itself the verdict, below which the figure stands; of several, a sentence counts the verdicts.
    is_figure_first = len(comparison.claims) > 1 and len(comparison.arms) <= MAX_ROWS_BEFORE_CLAIMS
    return load_template("page.html.j2").render(
        comparison=comparison,
        registration=comparison.registration,
        facts=study_facts(comparison),
        claim_links=[claim_links(comparison, claim, figure_names) for claim in comparison.claims],
        claim_anchors=[claim_anchor(index) for index in range(len(comparison.claims))],
        contents=_list_contents(comparison, sections, figure_names, is_figure_first=is_figure_first),
        decisive_figure=DECISIVE_FIGURE if DECISIVE_FIGURE in figure_names else "",
        is_figure_first=is_figure_first,
        sections=sections,
        figures={figure.name: figure for figure in figures},
        symbols=VERDICT_SYMBOLS,
    )


def _list_contents(
    comparison: Comparison, sections: Iterable[Section], figure_names: Iterable[str], *, is_figure_first: bool
) -> list[tuple[str, str]]:
    """The table of contents: titles with their addresses."""
    contents = []
    if comparison.claims:
        contents.append(("Claims", "#claims"))
    if DECISIVE_FIGURE in figure_names:
        contents.insert(0 if is_figure_first else 1, ("Errors and differences", f"#figure-{DECISIVE_FIGURE}"))
    if comparison.cautions:
        contents.append(("Caveats", "#cautions"))
    contents += [(section.title, f"#{section.name}") for section in sections]
    return contents


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
    environment.filters["beyond"] = further_reason
    environment.filters["marks"] = _marks_json
    environment.filters["script_json"] = _script_json
    return environment.get_template(name)


def _slugify(word: str) -> str:
    """Make a CSS class of a verdict."""
    return word.replace(" ", "-")


def _marks_json(panel: Panel) -> Markup:
    """The marks of a panel as JSON, each label once: ``{"labels": […], "marks": [[x, y, label, arm, text], …]}``."""
    labels = {mark.label: 0 for mark in panel.marks}
    numbers = {label: number for number, label in enumerate(labels)}
    marks = [[mark.x, mark.y, numbers[mark.label], mark.arm, mark.text] for mark in panel.marks]
    return _script_json({"labels": list(labels), "marks": marks})


def _script_json(data: object) -> Markup:
    """JSON within a ``script`` element, which only ``</script`` and ``<!--`` could leave."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c"))
