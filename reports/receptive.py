"""Receptive fields: how much of the image one position of the last feature map sees, beside the image's own side."""

from __future__ import annotations

from functools import partial

from matplotlib.axes import Axes

from reports import drawing
from reports.comparison import Comparison
from reports.drawing import INK, MUTED, Figure, Panel, short
from reports.numbers import listed, significant, whole

ROW_INCHES, FRAME_INCHES = 0.3, 0.85


def receptive_fields(comparison: Comparison) -> Figure | None:
    """A bar per arm; ``None`` where no arm's network has a receptive field."""
    fields = _fields(comparison)
    if not fields:
        return None
    side = _side(comparison)
    panel = Panel(
        name="receptive-fields",
        title="Side of the receptive field, pixels",
        alternative=_told(fields, side),
        draw=partial(_draw, comparison, fields, side),
        height_inches=FRAME_INCHES + ROW_INCHES * len(fields),
    )
    caption = "Side, in input pixels, of what one position of the last feature map before the head sees."
    if side:
        caption += (
            f" The vertical line is the side of the image, {side} pixels; the faint part of a bar lies beyond it, "
            "where a position in the middle meets nothing but padding."
        )
    unknown = [arm.name for arm in comparison.arms if "receptive_field" not in arm.properties]
    if unknown:
        caption += f" Not known of {listed(unknown)}."
    return Figure(name="receptive", title="Receptive fields", caption=caption, panels=(panel,))


def _fields(comparison: Comparison) -> dict[str, int]:
    measured = {arm.name: int(arm.properties.get("receptive_field", 0)) for arm in comparison.arms}
    return {name: field for name, field in measured.items() if field > 0}


def _side(comparison: Comparison) -> int:
    """The input's side where it is held equal in all arms; else 0."""
    held = comparison.registration.held.get("scale.resolution")
    return held if isinstance(held, int) else 0


def _draw(comparison: Comparison, fields: dict[str, int], side: int, axes: Axes) -> None:
    names = [arm.name for arm in comparison.arms]
    heights = range(len(fields) - 1, -1, -1)
    for height, (name, field) in zip(heights, fields.items(), strict=True):
        shade = drawing.colour(names.index(name))
        within = min(field, side) if side else field
        axes.barh([height], [within], height=0.5, color=shade, linewidth=0)
        if field > within:
            axes.barh([height], [field - within], left=[within], height=0.5, color=shade, alpha=0.3, linewidth=0)
        axes.annotate(whole(field), (field, height), xytext=(4, 0), textcoords="offset points", va="center",
                      color=INK, fontsize=8, annotation_clip=False)  # fmt: skip
    axes.set_yticks(list(heights), [short(name) for name in fields])
    axes.tick_params(axis="y", labelcolor=INK)
    axes.set_ylim(-0.6, len(fields) - 0.1)
    axes.set_xlim(0, 1.1 * max(*fields.values(), side))
    if side:
        axes.axvline(side, color=MUTED, linewidth=1.0, linestyle=(0, (3, 2)))
        axes.annotate(f"image, {side}", (side, len(fields) - 0.45), xytext=(3, 0), textcoords="offset points",
                      va="center", color=MUTED, fontsize=7.5, annotation_clip=False)  # fmt: skip
    axes.locator_params(axis="x", nbins=6)


def _told(fields: dict[str, int], side: int) -> str:
    told = [
        f"{name} {whole(field)}" + (f", {significant(field / side, 2)} times the image's side" if side else "")
        for name, field in fields.items()
    ]
    image = f" The image has a side of {side}." if side else ""
    return f"Side of the receptive field in pixels: {'; '.join(told)}.{image}"
