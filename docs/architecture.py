"""Writes docs/explanation/architecture.svg: the packages and which imports which, from the real imports.

Command: ``make docs`` or ``python docs/architecture.py``.

An arrow points from a package to one that it imports. Arrows that follow from others are left out (transitive
reduction), and so are those between layers: a layer may import everything in the layers to its left.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "docs" / "explanation" / "architecture.svg"
LAYERS = {
    "lightning_modules": "what is trained",
    "ablations": "what changes",
    "studies": "how it is run",
    "reports": "what came out",
}
BOX_WIDTH, BOX_HEIGHT = 118, 40
GAP_ACROSS, GAP_DOWN = 14, 34
MARGIN, TITLE_HEIGHT, PANEL_GAP = 18, 58, 26
STYLE = """
text { font-family: system-ui, sans-serif; fill: #1f2933; text-anchor: middle; }
.layer { fill: #f6f7f9; stroke: #d5dae1; }
.title { font-size: 15px; font-weight: 600; } .about { font-size: 12px; fill: #5c6773; }
.package { fill: #ffffff; stroke: #8b98a8; } .name { font-size: 12.5px; } .count { font-size: 10.5px; fill: #5c6773; }
.arrow { fill: none; stroke: #8b98a8; stroke-width: 1.1; marker-end: url(#head); }
.between { fill: none; stroke: #3b4a5a; stroke-width: 2; marker-end: url(#head); }
"""

Graph = dict[str, set[str]]


def module_name(file: Path) -> str:
    """The dotted name of a source file."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def package_name(module: str) -> str:
    """The package of a module; files that lie directly in a layer share one box, but for ``ablations``."""
    parts = module.split(".")
    if parts[0] == "ablations":
        return "ablations"
    folder = ROOT / parts[0] / parts[1] if len(parts) > 1 else None
    return ".".join(parts[:2]) if folder and folder.is_dir() else parts[0]


def read_imports() -> tuple[Graph, dict[str, int]]:
    """Per package, the packages that it imports, lazy imports included; and how many modules it has."""
    graph: Graph = defaultdict(set)
    num_modules: dict[str, int] = defaultdict(int)
    for layer in LAYERS:
        for file in sorted((ROOT / layer).rglob("*.py")):
            package = package_name(module_name(file))
            num_modules[package] += file.name != "__init__.py"
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom) and node.module:
                    targets = [f"{node.module}.{alias.name}" for alias in node.names]
                elif isinstance(node, ast.Import):
                    targets = [alias.name for alias in node.names]
                else:
                    continue
                ours = {package_name(target) for target in targets if target.partition(".")[0] in LAYERS}
                graph[package] |= ours - {package}
    return graph, num_modules


def longest_path(package: str, graph: Graph) -> int:
    """How many packages lie, one importing the next, below a package."""
    return 1 + max((longest_path(target, graph) for target in graph.get(package, ())), default=-1)


def reaches(package: str, target: str, graph: Graph) -> bool:
    """Whether a package imports another, directly or through others."""
    return any(each == target or reaches(each, target, graph) for each in graph.get(package, ()))


def without_implied(graph: Graph) -> Graph:
    """The transitive reduction of an acyclic graph."""
    reduced: Graph = {}
    for package, targets in graph.items():
        implied = {
            target for target in targets for other in targets if other != target and reaches(other, target, graph)
        }
        reduced[package] = targets - implied
    return reduced


def boxes_of(
    packages: list[str], graph: Graph, left: float, height: float
) -> tuple[dict[str, tuple[float, float]], float]:
    """Upper left corners of a layer's boxes, foundations at the bottom; and the width that they take."""
    ranks: dict[int, list[str]] = defaultdict(list)
    for package in packages:
        ranks[longest_path(package, graph)].append(package)
    widest = max(len(row) for row in ranks.values())
    width = widest * BOX_WIDTH + (widest - 1) * GAP_ACROSS
    corners = {}
    for rank, row in ranks.items():
        row_width = len(row) * BOX_WIDTH + (len(row) - 1) * GAP_ACROSS
        top = height - MARGIN - BOX_HEIGHT - rank * (BOX_HEIGHT + GAP_DOWN)
        for index, package in enumerate(sorted(row)):
            corners[package] = (left + (width - row_width) / 2 + index * (BOX_WIDTH + GAP_ACROSS), top)
    return corners, width


def draw() -> str:
    """The picture as SVG."""
    graph, num_modules = read_imports()
    by_layer: dict[str, list[str]] = {layer: [] for layer in LAYERS}
    for package in num_modules:
        by_layer[package.partition(".")[0]].append(package)
    facades = {layer for layer in LAYERS if layer != "ablations"}  # what users import: they import the packages
    inner: Graph = {}
    for layer, packages in by_layer.items():
        members = [package for package in packages if package not in facades]
        by_layer[layer] = members
        for package in members:
            inner[package] = {target for target in graph[package] if target in members}
    depth = max(longest_path(package, inner) for package in inner)
    height = TITLE_HEIGHT + (depth + 1) * (BOX_HEIGHT + GAP_DOWN) - GAP_DOWN + 2 * MARGIN
    parts, corners, left, middles = [], {}, PANEL_GAP, []
    for layer, packages in by_layer.items():
        placed, width = boxes_of(packages, inner, left + MARGIN, height)
        corners |= placed
        panel = width + 2 * MARGIN
        middle = left + panel / 2
        parts.append(f'<rect class="layer" x="{left}" y="10" width="{panel:g}" height="{height - 14:g}" rx="8"/>')
        parts.append(f'<text class="title" x="{middle:g}" y="34">{layer}/</text>')
        parts.append(f'<text class="about" x="{middle:g}" y="51">{LAYERS[layer]}</text>')
        middles.append((left, left + panel))
        left += panel + PANEL_GAP
    for (_, right), (next_left, _) in pairwise(middles):
        parts.append(f'<path class="between" d="M{next_left:g} 30 L{right + 3:g} 30"/>')
    for package, targets in without_implied(inner).items():
        x, y = corners[package]
        for target in sorted(targets):
            to_x, to_y = corners[target]
            begin, end = (x + BOX_WIDTH / 2, y + BOX_HEIGHT), (to_x + BOX_WIDTH / 2, to_y - 2)
            bend = (end[1] - begin[1]) / 2
            parts.append(
                f'<path class="arrow" d="M{begin[0]:g} {begin[1]:g} C{begin[0]:g} {begin[1] + bend:g} '
                f'{end[0]:g} {end[1] - bend:g} {end[0]:g} {end[1]:g}"/>'
            )
    for package, (x, y) in corners.items():
        name = package.rpartition(".")[2]
        count = f"{num_modules[package]} modules" if num_modules[package] != 1 else "1 module"
        parts.append(f'<rect class="package" x="{x:g}" y="{y:g}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="5"/>')
        parts.append(f'<text class="name" x="{x + BOX_WIDTH / 2:g}" y="{y + 18:g}">{name}</text>')
        parts.append(f'<text class="count" x="{x + BOX_WIDTH / 2:g}" y="{y + 32:g}">{count}</text>')
    head = (
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto-start-reverse"><path d="M0 0 L8 4 L0 8 z" fill="#5c6773"/></marker></defs>'
    )
    size = f'width="{left:g}" height="{height + 8:g}" viewBox="0 0 {left:g} {height + 8:g}"'
    background = '<rect width="100%" height="100%" fill="#ffffff"/>'
    body = "\n".join((f"<style>{STYLE}</style>", head, background, *parts))
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n{body}\n</svg>\n'


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
    print(PICTURE)
