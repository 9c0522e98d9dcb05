"""Writes the networks and ablations of docs/reference from the catalogue and from the ablations' own files.

Command: ``make docs`` or ``python docs/catalogue.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import ablations
from ablations import (
    PROPERTY_LABELS,
    Ablation,
    PropertyContrast,
    compare_properties,
    compare_setups,
    confounding_forced_paths,
)
from lightning_modules.profiling.profile import profile_spec
from lightning_modules.specs.catalogue import NETWORKS, VGG_A
from lightning_modules.specs.networks import ResNet
from lightning_modules.specs.scale import Scale
from lightning_modules.specs.setup import Setup
from studies.design.instantiation import InstantiatedNetwork
from studies.design.verification import build_verified_networks

DOCS = Path(__file__).parent
LARGE, SMALL = Scale(), Scale(resolution=32, classes=10)
NUMBER = re.compile(r"[\d,]+|unknown")


def networks() -> str:
    """Every network of the catalogue with what was measured on it."""
    rows = []
    for name, network in NETWORKS.items():
        scale = SMALL if isinstance(network, ResNet) and network.stem == "3x3" else LARGE
        found = profile_spec(network, scale).properties()
        rows.append((f"`{name}`", f"{scale.resolution}", *(_number(found.get(each)) for each in PROPERTY_LABELS)))
    header = ("network", "pixels", *PROPERTY_LABELS.values())
    return "\n".join(
        [
            "# Networks",
            "",
            "Made by `python docs/catalogue.py`: each network built and measured at 224 pixels and 1,000 classes,",
            "those of 6n + 2 layers at 32 pixels and 10 classes. Weight layers: on the longest path, so that",
            "projections on shortcuts do not count. Multiply-adds: of one image; bias additions and norms not counted.",
            "Receptive field: side in input pixels of what one position of the last map sees. `ablate profile NETWORK`",
            "shows it layer by layer.",
            "",
            "A block of layers without a head is profiled by its text, in quotes (grammar: `ablate profile --help`).",
            "Five 3×3 convolutions, not three, see as much as one of 11×11. Multiply-adds: of one output position.",
            "",
            "    $ ablate profile 'conv 11x11 64->128' 'conv 3x3 64->128 | conv 3x3 128->128 | conv 3x3 128->128'",
            "",
            "| block | parameters | multiply-adds | receptive field |",
            "|---|---:|---:|---:|",
            "| one 11×11, 64 to 128 channels | 991,360 | 991,232 | 11 |",
            "| three 3×3 | 369,024 | 368,640 | 7 |",
            "| five 3×3 | 664,192 | 663,552 | 11 |",
            "",
            "The networks are those of the papers, with these exceptions. `resnet-50`, `resnet-101` and",
            "`resnet-152` are torchvision's (ResNet v1.5): a bottleneck's 3×3 convolution has the stride of 2. In",
            "the paper's, `resnet-50-v1` and so on, the first 1×1 has it, hence its 3.8, 7.6 and 11.3",
            "billion multiply-adds (He et al. 2016, Table 1); parameters are the same. `resnet-18` and",
            "`resnet-34` have the projections of option B, as torchvision's; those of the paper's Table 2, with",
            "option A, are `resnet-18-a` and `resnet-34-a`. `vgg-25` and `vgg-31` continue the paper's Table 1.",
            "`alexnet` and `googlenet` are torchvision's.",
            "",
            *_table(header, rows),
            "",
        ]
    )


def catalogue() -> str:
    """Every ablation: question, arms, what changed, claims."""
    parts = [
        "# Ablations",
        "",
        "Made by `python docs/catalogue.py`. Arms as built at 224 pixels and full width; where the family follows the",
        "resolution, the networks for 32 pixels are other ones (`ablate show NAME` shows those of a protocol). A",
        "contrast is *unconfounded* where, beside the property studied, no measured property changed by more than 5%,",
        "or where one changed alone; else it is *confounded*, and a verdict on it is a verdict on all that changed.",
        "",
    ]
    for name in ablations.names():
        parts += _ablation(name, ablations.load(name))
    return "\n".join(parts)


def _ablation(name: str, ablation: Ablation) -> Iterator[str]:
    setup = Setup(network=VGG_A)
    setups = ablation.setups(setup)
    built = build_verified_networks(setups)
    yield from (f"## `{name}`", "", ablation.question.strip(), "")
    yield from _table(
        ("arm", "parameters", "multiply-adds", "contrast to the baseline"), list(_arms(ablation, setups, built))
    )
    yield ""
    for claim in ablation.claims_for(setup):
        source = f" ({claim.source})" if claim.source else ""
        yield f"- {claim.sentence}{source}" + (f" Not like for like: {claim.caveat}." if claim.caveat else "")
    if ablation.factorial:
        crossed = ablation.factorial
        yield f"- Two factors crossed: {crossed.rows.name} × {crossed.columns.name}."
    if ablation.design:
        names = (contrast.component for contrast in ablation.design.contrasts)
        yield f"- {ablation.design.title}: {', '.join(names)}."
    for path, reason in ablation.forced.items():
        yield f"- Forced with it, `{path}`: {reason}."
    yield ""


def _arms(
    ablation: Ablation, setups: dict[str, Setup], built: dict[str, InstantiatedNetwork]
) -> Iterator[tuple[str, ...]]:
    baseline = built[ablation.baseline.name]
    for arm, network in built.items():
        forced = confounding_forced_paths(compare_setups(setups[ablation.baseline.name], setups[arm]), ablation.forced)
        found = compare_properties(baseline.properties, network.properties, ablation.property_studied, forced)
        told = "baseline" if arm == ablation.baseline.name else _told(found)
        properties = network.properties
        yield (arm, _number(properties.get("parameters")), _number(properties.get("multiply_adds")), told)


def _told(found: PropertyContrast) -> str:
    changed = "; ".join(f"{PROPERTY_LABELS[each.name]} {each.before:,} → {each.after:,}" for each in found.changed)
    forced = "; ".join(f"`{path}`, forced with it" for path in found.forced)
    unknown = "; ".join(f"{PROPERTY_LABELS[name]} not known" for name in found.unmeasured)
    unconfounded = "unconfounded, as far as known" if unknown else "unconfounded"
    told = "; ".join(filter(None, (changed, forced, unknown)))
    return f"{unconfounded if found.is_unconfounded else 'confounded'}: {told or 'nothing changed'}"


def _number(value: int | None) -> str:
    return "unknown" if value is None else f"{value:,}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(header) + " |"
    columns = zip(*rows, strict=True)
    yield "|" + "|".join("---:" if all(map(NUMBER.fullmatch, column)) else "---" for column in columns) + "|"
    for row in rows:
        yield "| " + " | ".join(row) + " |"


if __name__ == "__main__":
    (DOCS / "reference" / "networks.md").write_text(networks(), encoding="utf-8")
    (DOCS / "reference" / "ablations.md").write_text(catalogue(), encoding="utf-8")
