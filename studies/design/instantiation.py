"""Instantiate a setup's network without weights, measure it, and describe its modules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ablations import Difference
from lightning_modules.networks.build import build_meta_network, build_network
from lightning_modules.networks.custom import is_lightning_module
from lightning_modules.networks.outputs import extract_logits
from lightning_modules.profiling.evaluation_cost import inference_multiply_adds
from lightning_modules.profiling.profile import Profile, profile_module
from lightning_modules.profiling.structure import describe_structure
from lightning_modules.profiling.tracer import trace_module
from lightning_modules.rng import RngState
from lightning_modules.specs.data import ForeignData
from lightning_modules.specs.errors import UserError
from lightning_modules.specs.networks import Custom
from lightning_modules.specs.setup import Setup
from lightning_modules.specs.test import Test
from studies.design.training_proof import prove_training

if TYPE_CHECKING:
    from torch import nn

# Properties of an ensemble whose members run side by side: the depth and view of its deepest member. All others add up.
ENSEMBLE_REDUCTIONS = {"weight_layers": max, "receptive_field": max}
PROBE_BATCH_SIZE = 2  # images: batch norm over a 1x1 map needs two for a variance


@dataclass(frozen=True, kw_only=True)
class InstantiatedNetwork:
    """An instantiated network, described.

    Attributes:
        properties: measured by a forward pass, by name; those that cannot be known are left out.
        modules: description of every module that computes or learns, by layer path.
        is_self_training: whether the network is a ``LightningModule`` with its own training.
        unknowns: sentences on what cannot be known of it.
        notes: sentences on what its user should know of it.
    """

    properties: Mapping[str, int]
    modules: Mapping[str, str]
    is_self_training: bool
    unknowns: tuple[str, ...]
    notes: tuple[str, ...] = ()


def instantiate_network(setup: Setup) -> InstantiatedNetwork:
    """Instantiate a setup's network without weights, and measure it.

    Properties of an evaluation are those of all networks that it evaluates together.

    Raises:
        UserError: where the network cannot be built, or does not accept the protocol's images.
    """
    module, profile = _build_and_profile(setup)
    is_self_training = isinstance(setup.network, Custom) and is_lightning_module(module)
    properties = profile.properties()
    if not setup.has_training:
        properties = _ensemble_properties(setup, properties)
    return InstantiatedNetwork(
        properties=properties,
        modules=describe_structure(module, profile),
        is_self_training=is_self_training,
        unknowns=tuple(_list_unknowns(setup, is_self_training=is_self_training)),
        notes=prove_training(setup) if isinstance(setup.network, Custom) else (),
    )


def _ensemble_properties(setup: Setup, own_properties: Mapping[str, int]) -> dict[str, int]:
    """Combine the properties of all networks of an evaluation; multiply-adds are those of the complete test.

    Raises:
        UserError: where a network cannot be evaluated, or is named twice.
    """
    networks = (setup.network, *setup.test.members)
    if len(set(networks)) < len(networks):
        raise UserError("a network is named twice in a test: its posteriors would be averaged with themselves.")
    all_properties = [own_properties]
    for member in setup.dependencies[1:]:  # the first one is the setup's own network
        all_properties.append(instantiate_network(replace(member, test=Test())).properties)
    combined = {}
    for name in own_properties:
        values = [properties[name] for properties in all_properties if name in properties]
        if len(values) == len(all_properties):  # unknown of the ensemble where unknown of a member
            combined[name] = ENSEMBLE_REDUCTIONS.get(name, sum)(values)
    return combined | {"multiply_adds": inference_multiply_adds(setup)}


def _build_and_profile(setup: Setup) -> tuple[nn.Module, Profile]:
    """Build on the meta device, which costs no memory; with weights where a network reads a tensor's content."""
    # Full-width VGG-E has 144 million parameters, 0.6 GB, and an ablation may have a dozen arms.
    module = build_meta_network(setup.network, setup.scale)
    try:
        return module, _validate_and_profile(module, setup)
    except UserError as error:
        if "meta" not in str(error).lower():
            raise
    module = build_network(setup.network, setup.scale)
    return module, _validate_and_profile(module, setup)


def _validate_and_profile(module: nn.Module, setup: Setup) -> Profile:
    scale = setup.scale
    image_shape = scale.image_shape
    if isinstance(setup.network, Custom):  # networks of this package have outputs of the right shape
        _require_logits(module, image_shape, scale.classes)
        if not is_lightning_module(module):
            _require_training_outputs(module, image_shape, scale.classes, setup.network.auxiliary_weight)
    return profile_module(module, image_shape)


def _require_logits(module: nn.Module, image_shape: tuple[int, int, int], num_classes: int) -> None:
    output = trace_module(module, image_shape).output
    # The tracer runs the module on one image in evaluation mode; its output is the one that is tested.
    shape = tuple(_collect_outputs(module, output)[0].shape)
    if shape != (1, num_classes):
        raise UserError(
            f"{type(module).__name__} gives the shape {shape} for one image; expected logits of the shape "
            f"{(1, num_classes)} from its `forward`: every network is evaluated through it, also one that trains "
            "itself."
        )


def _require_training_outputs(
    module: nn.Module, image_shape: tuple[int, int, int], num_classes: int, auxiliary_weight: float
) -> None:
    """Check that a network's outputs in training mode are logits: the first one, and auxiliary ones that count."""
    outputs = _collect_outputs(module, _run_in_training_mode(module, image_shape))
    shapes = [tuple(output.shape) for output in outputs]
    if auxiliary_weight > 0 and len(shapes) == 1:
        raise UserError(
            f"{type(module).__name__} has no auxiliary outputs: in training it gives its logits alone, and "
            f"auxiliary_weight is {auxiliary_weight:g}. Leave that at 0, or let its `forward` give more in training."
        )
    expected_shape = (PROBE_BATCH_SIZE, num_classes)
    counted_shapes = shapes if auxiliary_weight > 0 else shapes[:1]
    for index, shape in enumerate(counted_shapes):
        if shape == expected_shape:
            continue
        output_name = f"output {index + 1}" if len(shapes) > 1 else "its output"
        remedy = " With an auxiliary_weight of 0, further outputs are ignored." if index else ""
        raise UserError(
            f"{type(module).__name__}, in training on {PROBE_BATCH_SIZE} images: {output_name} has the shape {shape}; "
            f"expected logits of the shape {expected_shape}.{remedy}"
        )


def _run_in_training_mode(module: nn.Module, image_shape: tuple[int, int, int]) -> Any:
    """Run a module on a batch of zeros in training mode, which is the mode of a new module.

    The global random state is restored afterwards: dropout must not shift what a trial draws.
    """
    tensors = [tensor for tensor in (*module.parameters(), *module.buffers()) if tensor.is_floating_point()]
    prototype = tensors[0] if tensors else torch.empty(0, device="meta")
    try:
        with RngState(np.random.default_rng(0)), torch.no_grad(), prototype.device:
            return module(prototype.new_zeros(PROBE_BATCH_SIZE, *image_shape))
    except Exception as error:  # it is the user's code, and may raise anything: the cause has the traceback
        lines = str(error).strip().splitlines() or [type(error).__name__]
        size = " x ".join(map(str, image_shape))
        raise UserError(
            f"{type(module).__name__} fails in training on {PROBE_BATCH_SIZE} images of {size}: {lines[0]}"
        ) from error


def _collect_outputs(module: nn.Module, output: Any) -> list[torch.Tensor]:
    try:
        return extract_logits(output)
    except UserError as error:
        raise UserError(f"{type(module).__name__}: {error}") from None


def compare_modules(before: InstantiatedNetwork, after: InstantiatedNetwork) -> tuple[Difference, ...]:
    """List the modules in which two instantiated networks differ, by layer path."""
    differences = []
    for layer_path in dict.fromkeys((*before.modules, *after.modules)):
        old, new = before.modules.get(layer_path), after.modules.get(layer_path)
        if old != new:
            differences.append(Difference(path=layer_path, before=old, after=new))
    return tuple(differences)


def _list_unknowns(setup: Setup, *, is_self_training: bool) -> Iterator[str]:
    if isinstance(setup.network, Custom):
        yield (
            f"{setup.network.class_path} draws its own initial weights, from the seed: layers that two arms have in "
            "common need not start equal."
        )
    if is_self_training:
        yield (
            "It trains itself: loss, optimizer, schedule, clipping and precision are its own, and not known, nor is "
            "its error during training. Of the recipe only epochs, batch size and augmentation reach it."
        )
    if isinstance(setup.data, ForeignData):
        yield (
            f"{setup.data.class_path} reads its own data: split, batch size and augmentation are its own, and those of "
            "the recipe have no effect. The final training error is measured on its training loader, with that "
            "loader's augmentation."
        )
