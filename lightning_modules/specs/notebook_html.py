"""Views of values: one line at a prompt, HTML in a notebook; and errors as one line there.

The standard library suffices, so that a spec shows itself without a framework. All text is escaped. Colors are those of
the notebook, light or dark.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from html import escape

MAX_LINE_LENGTH = 100  # characters of a value at a prompt, where it may be one of a list
MAX_ROWS = 60  # of a table; a study of a thousand seeds must not fill a notebook

# JupyterLab and VS Code set these variables; elsewhere the values after the comma hold. The names are those that inline
# figures use (``reports.figures.style.CSS_VARIABLES``).
_COLORS = {
    "ink": ("--jp-content-font-color1", "--vscode-foreground", "#1b1f24"),
    "muted": ("--jp-content-font-color2", "--vscode-descriptionForeground", "#68717c"),
    "rule": ("--jp-border-color2", "--vscode-widget-border", "#d5dae0"),
    "band": ("--jp-layout-color2", "--vscode-editor-inactiveSelectionBackground", "#e6ebf1"),
    "paper": ("--jp-layout-color0", "--vscode-editor-background", "#fffffe"),
}
_VARIABLES = "".join(
    f"--{name}:var({first},var({second},{value}));" for name, (first, second, value) in _COLORS.items()
)
# The class is given twice: JupyterLab's own rule for tables, which aligns all text right, names two classes.
_TABLE = ".ablate-view.ablate-view table"
_STYLE = (
    f".ablate-view{{{_VARIABLES}color:var(--ink);font-size:13px;line-height:1.45;max-width:66em}}"
    ".ablate-view p{margin:.25em 0}.ablate-view .head{font-size:15px;font-weight:600}"
    ".ablate-view .quiet{color:var(--muted)}.ablate-view ul{margin:.25em 0;padding-left:1.3em}"
    f"{_TABLE}{{border-collapse:collapse;margin:.5em 0;border:0;font-size:13px}}"
    f"{_TABLE} th,{_TABLE} td{{text-align:left;vertical-align:top;padding:.2em 1.2em .2em 0;"
    "border:0;border-bottom:1px solid var(--rule);max-width:36em;white-space:normal;background:none}"
    f"{_TABLE} th{{color:var(--muted);font-weight:500}}{_TABLE} td:first-child{{min-width:6em}}"
    f"{_TABLE} .number{{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}}"
    ".ablate-view .panels{display:flex;flex-wrap:wrap;gap:1em}.ablate-view .panels svg{width:27em;max-width:100%}"
)


def describe_object(value: object, description: str) -> str:
    """``<Class description>`` in one line of at most 100 characters, for a ``__repr__``.

    Nothing that is stored or hashed may depend on it: it is cut short, and its wording may change. A ``__repr__`` that
    imports it in its body is no part of the code digest.
    """
    text = " ".join([type(value).__name__, *description.split()])
    max_length = MAX_LINE_LENGTH - len("<>")
    if len(text) > max_length:
        text = text[: max_length - 1] + "…"
    return f"<{text}>"


def describe_settings(settings: Mapping[str, object]) -> str:
    """Describe paths and their values: ``recipe.epochs=5, network=Vgg of 11 weight layers: …``."""
    return ", ".join(f"{path}={str(value).removeprefix('<').removesuffix('>')}" for path, value in settings.items())


def list_changed_fields(value: object, names: Iterable[str]) -> list[str]:
    """``name value`` of those fields of a dataclass value that do not have their default."""
    defaults = {field.name: field.default for field in dataclasses.fields(value)}  # type: ignore[arg-type]
    return [f"{name} {getattr(value, name)}" for name in names if getattr(value, name) != defaults[name]]


def render_view(head: str, *blocks: str) -> str:
    """Render a heading, which is escaped, and blocks of HTML as one view."""
    return f'<style>{_STYLE}</style><div class="ablate-view"><p class="head">{escape(head)}</p>{"".join(blocks)}</div>'


def render_line(text: str, *, quiet: bool = False) -> str:
    """Render a paragraph; empty for no text."""
    style = ' class="quiet"' if quiet else ""
    return f"<p{style}>{escape(text)}</p>" if text else ""


def render_list(items: Iterable[str]) -> str:
    """Render a list; empty for no items."""
    points = "".join(f"<li>{escape(item)}</li>" for item in items)
    return f"<ul>{points}</ul>" if points else ""


def render_table(header: Sequence[str], rows: Sequence[Sequence[object]], numbers: Collection[int] = ()) -> str:
    """Render a table of at most 60 rows; empty without rows.

    Args:
        numbers: indices of the columns that are aligned right.
    """
    if not rows:
        return ""
    body = "".join(_render_row("td", row, numbers) for row in rows[:MAX_ROWS])
    hidden = len(rows) - MAX_ROWS
    more = render_line(f"and {hidden} more rows", quiet=True) if hidden > 0 else ""
    return f"<table><thead>{_render_row('th', header, numbers)}</thead><tbody>{body}</tbody></table>{more}"


def render_one_line_error(error: BaseException) -> list[str]:
    """The lines that IPython prints of an error: its type and text; the whole traceback under ``%xmode Verbose``.

    For ``_render_traceback_``, which IPython calls on an exception.
    """
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if shell is not None and shell.InteractiveTB.mode == "Verbose":
        traceback = shell.InteractiveTB.structured_traceback(type(error), error, error.__traceback__)
        return [str(line) for line in traceback]
    return [f"{type(error).__name__}: {error}"]


def _render_row(tag: str, cells: Sequence[object], numbers: Collection[int]) -> str:
    texts = []
    for index, cell in enumerate(cells):
        style = ' class="number"' if index in numbers else ""
        texts.append(f"<{tag}{style}>{escape(str(cell))}</{tag}>")
    return f"<tr>{''.join(texts)}</tr>"
