"""Find a network by name and profile it: parameters, multiply-adds, receptive field."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import ablations
from lightning_modules.profiling.profile import profile_spec
from lightning_modules.specs.catalogue import NETWORKS, VGG_A, find_network
from lightning_modules.specs.errors import InvalidValue, did_you_mean
from lightning_modules.specs.scale import Scale
from lightning_modules.specs.setup import Setup
from studies.inspection.named_profile import NamedProfile, ProfileSection


@dataclass(frozen=True, kw_only=True)
class NetworkProfile(NamedProfile):
    """A named network's profile at a scale."""

    scale: Scale

    def as_data(self) -> dict[str, Any]:
        """The profile under the keys of `ablate profile --json`."""
        return self.common_data() | {"scale": asdict(self.scale)}


def expand_names(names: Iterable[str]) -> tuple[str, ...]:
    """Replace every ablation by its arms, and drop repeated names."""
    networks: dict[str, None] = {}
    for name in names:
        networks |= dict.fromkeys(_expand_name(name))
    return tuple(networks)


def _expand_name(name: str) -> Iterable[str]:
    if name in NETWORKS or not (name in ablations.names() or name.endswith(".py")):
        return (name,)
    return (f"{name}/{arm.name}" for arm in ablations.load(name).all_arms)


def profile_network(name: str, scale: Scale) -> NetworkProfile:
    """Profile a network of the catalogue (``vgg-d``) or an arm of an ablation (``depth/E``, ``./my_ablation.py/E``).

    Raises:
        InvalidValue: if there is no network of that name, or the resolution is too small for it.
        UserError: if the network fails on such an image.
    """
    setup = resolve_setup(name, scale)
    return NetworkProfile(name=name, scale=setup.scale, profile=profile_spec(setup.network, setup.scale))


def resolve_setup(name: str, scale: Scale) -> Setup:
    """The setup of a network name (see :func:`profile_network`) at a scale.

    Raises:
        InvalidValue: if there is no network of that name.
    """
    if "/" in name:
        return _arm_setup(name, Setup(network=VGG_A, scale=scale))
    return Setup(network=find_network(name), scale=scale)


def merge_orders(orders: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Merge sequences of names into one that keeps the order of each, as far as they agree."""
    merged: list[str] = []
    for names in orders:
        # Names before the first common one are inserted in front of it; without a common one, all are appended.
        position = next((merged.index(name) for name in names if name in merged), len(merged))
        for name in names:
            if name not in merged:
                merged.insert(position, name)
            position = merged.index(name) + 1
    return tuple(merged)


def _arm_setup(name: str, base: Setup) -> Setup:
    """The base setup with the changes of an arm; only what concerns the network and the scale is used."""
    ablation_name, arm_name = _split_arm_name(name)
    arms = {arm.name: arm for arm in ablations.load(ablation_name).all_arms}
    if arm_name not in arms:
        raise InvalidValue(
            f"The ablation {ablation_name!r} has no arm {arm_name!r}.{did_you_mean(arm_name, arms)} "
            f"There are: {', '.join(arms)}."
        )
    return arms[arm_name].apply(base)


def _split_arm_name(name: str) -> tuple[str, str]:
    """Split ``ABLATION/ARM``, where the ablation may be a path with slashes of its own."""
    path, ending, arm = name.partition(".py/")
    if ending:
        return f"{path}.py", arm
    if name.endswith(".py"):  # without an arm, which is told with the names of all
        return name, ""
    ablation, _, arm = name.partition("/")
    return ablation, arm


def group_sections(sections: Sequence[ProfileSection], max_sections: int = 8) -> tuple[ProfileSection, ...]:
    """Merge sections that differ only in a last letter, where there are many.

    For example ``inception3a`` and ``inception3b`` become ``inception3``.
    """
    if len(sections) <= max_sections:
        return tuple(sections)
    groups: dict[str, ProfileSection] = {}
    for section in sections:
        name = re.sub(r"(?<=\d)[a-z]$", "", section.name)
        group = groups.get(name, ProfileSection(name=name, parameters=0, multiply_adds=0))
        groups[name] = group.add_cost(section.parameters, section.multiply_adds)
    return tuple(groups.values())
