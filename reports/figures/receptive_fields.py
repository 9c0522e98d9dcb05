"""Receptive field of the last feature map, beside the side of the image."""

from __future__ import annotations

from functools import partial

from matplotlib.axes import Axes

from lightning_modules.specs.text import join_words
from reports.comparison.comparison import Comparison
from reports.figures import style
from reports.figures.style import INK, MUTED, Figure, Panel, shorten_name
from reports.formatting import format_integer, format_significant


def receptive_fields_figure(comparison: Comparison) -> Figure | None:
    """A bar per arm; ``None`` where no arm's network has a receptive field."""
    fields = _known_fields(comparison)
    if not fields:
        return None
    side = _image_side(comparison)
    panel = Panel(
        name="receptive-fields",
        title="Side of the receptive field, pixels",
        alternative=_describe_fields(fields, side),
        draw=partial(_draw_fields, comparison, fields, side),
        height_inches=style.panel_height(len(fields)),
    )
    caption = "Side, in input pixels, of the receptive field of one position of the last feature map before the head."
    if side:
        caption += (
            f" Vertical line: side of the image, {side} pixels. The faint part of a bar lies beyond the image: there, "
            "a position in the middle sees only padding."
        )
    unknown = [arm.name for arm in comparison.arms if "receptive_field" not in arm.properties]
    if unknown:
        caption += f" Unknown for {join_words(unknown, max_words=6)}."
    return Figure(name="receptive", title="Receptive fields", caption=caption, panels=(panel,))


def _known_fields(comparison: Comparison) -> dict[str, int]:
    """Side of the receptive field by arm, in pixels; none where unknown."""
    fields = {}
    for arm in comparison.arms:
        field = int(arm.properties.get("receptive_field", 0))
        if field > 0:
            fields[arm.name] = field
    return fields


def _image_side(comparison: Comparison) -> int:
    """The input's side where it is held equal in all arms; else 0."""
    resolution = comparison.registration.held.get("scale.resolution")
    return resolution if isinstance(resolution, int) else 0


def _draw_fields(comparison: Comparison, fields: dict[str, int], image_side: int, axes: Axes) -> None:
    heights = range(len(fields) - 1, -1, -1)
    for height, (name, field) in zip(heights, fields.items(), strict=True):
        color = style.arm_color(comparison.registration.arms.index(name))
        within = min(field, image_side) if image_side else field
        axes.barh([height], [within], height=0.5, color=color, linewidth=0)
        if field > within:
            axes.barh([height], [field - within], left=[within], height=0.5, color=color, alpha=0.3, linewidth=0)
        axes.annotate(format_integer(field), (field, height), xytext=(4, 0), textcoords="offset points", va="center",
                      color=INK, fontsize=8, annotation_clip=False)  # fmt: skip
    style.label_rows(axes, list(heights), [shorten_name(name) for name in fields])
    axes.set_ylim(-0.6, len(fields) - 0.1)  # room above the first bar for the label of the image's side
    axes.set_xlim(0, 1.1 * max(*fields.values(), image_side))
    if image_side:
        axes.axvline(image_side, color=MUTED, linewidth=1.0, linestyle=(0, (3, 2)))
        axes.annotate(f"image, {image_side}", (image_side, len(fields) - 0.45), xytext=(3, 0), va="center",
                      textcoords="offset points", color=MUTED, fontsize=7.5, annotation_clip=False)  # fmt: skip
    axes.locator_params(axis="x", nbins=6)


def _describe_fields(fields: dict[str, int], image_side: int) -> str:
    descriptions = []
    for name, field in fields.items():
        description = f"{name} {format_integer(field)}"
        if image_side:
            description += f", {format_significant(field / image_side, 2)} times the image's side"
        descriptions.append(description)
    image = f" The image has a side of {image_side}." if image_side else ""
    return f"Side of the receptive field in pixels: {style.join_descriptions(descriptions)}.{image}"
