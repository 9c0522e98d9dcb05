"""The tutorial notebook as a page of the site, with the outputs that it was executed with.

The page needs nothing but what MkDocs has: renderers of notebooks load scripts and fonts from servers, and the site is
built, and read, without a network.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PAGE = "notebook.md"
NOTEBOOK = Path(__file__).parent / "tutorial.ipynb"
DOWNLOAD = '<p><a href="tutorial.ipynb" download>Download this notebook</a> to run it in Jupyter or VS Code.</p>'
EMPTY_LINES = re.compile(r"\n\s*\n")  # which would end an element for Markdown
ESCAPE_SEQUENCE = re.compile(r"\x1b\[[0-9;]*m")  # colors of a terminal


def render_page(notebook: Path = NOTEBOOK) -> str:
    """Render a notebook as Markdown: its text, its code, and under each cell what it shows."""
    title, *cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    blocks = ["".join(title["source"]), DOWNLOAD]
    for cell in cells:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            blocks.append(source)
        else:
            blocks.append(f"```python\n{source}\n```")
            blocks += filter(None, map(_render_output, cell["outputs"]))
    return "\n\n".join(blocks) + "\n"


def _render_output(output: Mapping[str, Any]) -> str:
    """Render what a cell shows, in the richest of its forms; empty for nothing."""
    if output["output_type"] == "stream":
        return _render_text("".join(output["text"]))
    if output["output_type"] == "error":
        return _render_text("\n".join(output["traceback"]))
    forms = {kind: "".join(content) for kind, content in output["data"].items()}
    if "text/html" in forms:
        view = EMPTY_LINES.sub("\n", forms["text/html"].strip())
        return f'<div class="output">{view}</div>'
    if "image/png" in forms:
        image = forms["image/png"].replace("\n", "")
        alternative = html.escape(forms["text/plain"])
        return f'<div class="output"><img alt="{alternative}" src="data:image/png;base64,{image}"></div>'
    return _render_text(forms["text/plain"])


def _render_text(text: str) -> str:
    plain = html.escape(ESCAPE_SEQUENCE.sub("", text).strip("\n"))
    return f'<div class="output"><pre>{plain}</pre></div>' if plain.strip() else ""
