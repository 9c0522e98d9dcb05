"""A report's figure as a matplotlib figure, for a notebook or a script."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence

import matplotlib
from matplotlib.figure import Figure as Canvas

from lightning_modules.specs.errors import InvalidValue, did_you_mean
from reports.figures.style import PANEL_WIDTH_INCHES, RC_PARAMS, Figure

# A dark notebook shows the figure on white too: its text is dark, and a saved figure should not depend on the theme.
NOTEBOOK_PARAMS = RC_PARAMS | {"figure.facecolor": "white", "savefig.facecolor": "white", "axes.titlesize": 9.0}
DOTS_PER_INCH, SHOWN_DOTS_PER_INCH = 240, 120  # of the bitmap, and as shown: sharp on a screen of high density


class NotebookFigure(Canvas):
    """A matplotlib figure that a notebook shows, whether or not pyplot has been imported there."""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        stream = io.BytesIO()
        with matplotlib.rc_context(NOTEBOOK_PARAMS), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing from")
            self.savefig(stream, format="png", dpi=DOTS_PER_INCH)
        return stream.getvalue(), {"width": round(self.get_figwidth() * SHOWN_DOTS_PER_INCH)}


def draw_figure(figures: Sequence[Figure], name: str) -> NotebookFigure:
    """Draw a figure, all its panels side by side, or a single panel, by name.

    Raises:
        InvalidValue: for an unknown name, with all that there are.
    """
    panels_by_name = {figure.name: figure.panels for figure in figures}
    for figure in figures:
        panels_by_name |= {panel.name: (panel,) for panel in figure.panels if panel.name not in panels_by_name}
    if name not in panels_by_name:
        known = ", ".join(panels_by_name) or "none, as no trial has finished"
        raise InvalidValue(f"no figure is named {name!r}.{did_you_mean(name, panels_by_name)} There are: {known}.")
    panels = panels_by_name[name]
    num_columns = min(len(panels), 2)
    num_rows = -(-len(panels) // num_columns)
    height = num_rows * max(panel.height_inches for panel in panels)
    with matplotlib.rc_context(NOTEBOOK_PARAMS), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        canvas = NotebookFigure(figsize=(num_columns * PANEL_WIDTH_INCHES, height), layout="constrained")
        for index, panel in enumerate(panels, start=1):
            axes = canvas.add_subplot(num_rows, num_columns, index)
            axes.set_title(panel.title, loc="left")
            panel.draw(axes)
        canvas.draw_without_rendering()  # ticks take their style when they are first drawn
    return canvas
