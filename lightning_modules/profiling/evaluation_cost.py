"""Count the multiply-adds of a declared test."""

from __future__ import annotations

from itertools import product

from lightning_modules.evaluation.dense import FullyConvolutional
from lightning_modules.evaluation.inference import ViewScheme, crop_corners
from lightning_modules.networks.build import build_meta_network
from lightning_modules.profiling.profile import profile_module
from lightning_modules.specs.networks import Network
from lightning_modules.specs.scale import Scale
from lightning_modules.specs.setup import Setup


def inference_multiply_adds(setup: Setup) -> int:
    """Count the multiply-adds of the whole test of one square image.

    All sides, views and members are included.

    Raises:
        UserError: for a custom network in a dense test.
    """
    view_scheme = ViewScheme.from_setup(setup)
    networks = (setup.network, *setup.test.members)
    return sum(_network_multiply_adds(network, setup.scale, view_scheme) for network in networks)


def _network_multiply_adds(network: Network, scale: Scale, view_scheme: ViewScheme) -> int:
    module = build_meta_network(network, scale)
    total = 0
    for mode, side in product(view_scheme.modes, view_scheme.sides):
        if mode == "dense":
            dense_module = FullyConvolutional(module, network)
            num_positions, profile = 1, profile_module(dense_module, (scale.channels, side, side))
        else:
            crop_side = view_scheme.crop_side
            num_positions = len(crop_corners(mode, side, side, crop_side))
            profile = profile_module(module, (scale.channels, crop_side, crop_side))
        num_orientations = 2 if view_scheme.is_mirrored and mode != "single" else 1  # ViewScheme.views
        total += num_orientations * num_positions * profile.multiply_adds
    return total
