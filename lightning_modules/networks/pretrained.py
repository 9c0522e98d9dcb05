"""Load weights for a network of the catalogue from a file: a state dict of this package, or torchvision's."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from lightning_modules.networks.build import build_meta_network
from lightning_modules.specs.errors import UserError, did_you_mean
from lightning_modules.specs.networks import Custom, Network, ResNet, Vgg
from lightning_modules.specs.scale import Scale

TORCHVISION_PREFIX = "torchvision:"
WEIGHTS_EXAMPLE = f"{TORCHVISION_PREFIX}VGG16_Weights.IMAGENET1K_V1"

# The files that torchvision downloads: vgg16-397923af.pth, of which the digits are the content's hash.
HUB_FILE_NAME = re.compile(r"-[0-9a-f]{8}\.pth$")

# First parts of tensor names: VGG's features and classifier; ResNet's stem, numbered layers and last layer.
TORCHVISION_NAME_PREFIXES = ("features.", "classifier.", "conv1.", "bn1.", "layer", "fc.")
StateDict = Mapping[str, torch.Tensor]
TensorShapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How images are prepared for weights.

    Attributes:
        side_ratio: shorter side of a rescaled image, relative to the side of its center crop.
        mean: per channel, of pixels from 0 to 255.
        std: standard deviation of the same.
    """

    side_ratio: float
    mean: tuple[float, ...]
    std: tuple[float, ...]


# For most of torchvision's weights: 256 pixels at a crop of 224, and the statistics of ImageNet.
TORCHVISION_PREPROCESSING = Preprocessing(side_ratio=8 / 7, mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
# GoogLeNet's weights were converted from a network that scaled pixels to [-1, 1].
HALF_RANGE = (127.5, 127.5, 127.5)


@dataclass(frozen=True, kw_only=True)
class PretrainedNetwork:
    """A network with trained weights.

    Attributes:
        network: the network that the weights belong to: with batch norms if the weights have them.
        state_dict: the weights by this package's tensor names.
        preprocessing: of the images on which torchvision measured their errors; ``None`` where torchvision did not
            train them, as far as their names tell.
    """

    network: Network
    state_dict: StateDict
    preprocessing: Preprocessing | None


def load_pretrained(network: Network, scale: Scale, weights: str) -> PretrainedNetwork:
    """Load weights for a network.

    Args:
        network: the network as named; weights with batch norms turn ``vgg-d`` into torchvision's ``vgg16_bn``.
        scale: the scale at which it was trained.
        weights: a file, or ``torchvision:VGG16_Weights.IMAGENET1K_V1`` if torch's cache holds it.

    Raises:
        UserError: if there is no such file, it is no state dict, or it does not fit the network or its classes.
    """
    if weights.startswith(TORCHVISION_PREFIX):
        published = _find_published_weights(weights.removeprefix(TORCHVISION_PREFIX))
        file = _cached_weights_file(published)
    else:
        file = Path(weights)
        published = _published_weights_of_file(file)
    pretrained = match_state_dict(network, scale, _read_state_dict(file), weights)
    if published is None:
        return pretrained
    return replace(pretrained, preprocessing=_published_preprocessing(published, network))


def match_state_dict(network: Network, scale: Scale, state_dict: StateDict, weights_name: str) -> PretrainedNetwork:
    """Match a state dict with a network, by names or, if it is torchvision's, by order.

    Args:
        network: the network as named.
        scale: the scale at which it was trained.
        state_dict: by this package's tensor names or torchvision's.
        weights_name: what errors call the state dict.

    Raises:
        UserError: if it does not fit the network.
    """
    shapes = _tensor_shapes(state_dict)
    candidates = [network]
    if isinstance(network, Vgg) and network.norm == "none":
        candidates.append(replace(network, norm="batch"))
    for candidate in candidates:
        candidate_shapes = _tensor_shapes(build_meta_network(candidate, scale).state_dict())
        if candidate_shapes == shapes:
            return PretrainedNetwork(network=candidate, state_dict=state_dict, preprocessing=None)
        # torchvision lists a network's tensors in the same order under other names.
        has_equal_order = list(candidate_shapes.values()) == list(shapes.values())
        if has_equal_order and _has_torchvision_names(state_dict):
            _refuse_other_stride(candidate, weights_name)
            renamed = dict(zip(candidate_shapes, state_dict.values(), strict=True))
            return PretrainedNetwork(network=candidate, state_dict=renamed, preprocessing=TORCHVISION_PREPROCESSING)
    expected_shapes = _tensor_shapes(build_meta_network(network, scale).state_dict())
    raise UserError(_describe_mismatch(weights_name, expected_shapes, shapes, scale))


def _refuse_other_stride(network: Network, weights_name: str) -> None:
    """Refuse torchvision's bottlenecks for a network with the stride elsewhere: the shapes alone would fit."""
    if isinstance(network, ResNet) and network.block == "bottleneck" and network.halve_by == "1x1":
        raise UserError(
            f"{weights_name} are torchvision's, trained with the stride in the 3×3 convolution of a bottleneck; the "
            "network named has it in the first 1×1, as in the paper. Name the network without -v1: resnet-50."
        )


def _has_torchvision_names(state_dict: StateDict) -> bool:
    return all(name.startswith(TORCHVISION_NAME_PREFIXES) for name in state_dict)


def _tensor_shapes(state_dict: StateDict) -> TensorShapes:
    return {name: tuple(tensor.shape) for name, tensor in state_dict.items()}


def _read_state_dict(file: Path) -> StateDict:
    if not file.is_file():
        raise UserError(f"there is no file {file}; expected a state dict: a trial's weights.pt, or torchvision's .pth.")
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        lines = str(error).strip().splitlines()  # torch adds paragraphs of advice to the first line
        reason = lines[0] if lines else type(error).__name__
        if isinstance(error, pickle.UnpicklingError):  # torch advises to load it unsafely
            reason = "it holds more than tensors, or was not written by torch.save"
        raise UserError(
            f"{file} cannot be read as weights ({reason}); expected a state dict as written by torch.save."
        ) from None
    if not isinstance(state, dict):
        raise UserError(f"{file} holds a {type(state).__name__}; expected a state dict: tensors by name.")
    if not state or not all(isinstance(tensor, torch.Tensor) for tensor in state.values()):
        first_keys = ", ".join(list(map(str, state))[:5])
        content = f"a dict of {first_keys}" if state else "an empty dict"
        remedy = " Save its state_dict alone." if "state_dict" in state else ""
        raise UserError(f"{file} holds {content}; expected a state dict: tensors by name.{remedy}")
    return state


def _weights_classes() -> dict[str, Any]:
    """List the enumerations of weights that torchvision publishes, by name."""
    from torchvision import models

    return {name: getattr(models, name) for name in dir(models) if name.endswith("_Weights")}


def _find_published_weights(weights_name: str) -> Any:
    """Return torchvision's entry of weights by its name."""
    class_name, _, version = weights_name.partition(".")
    known_classes = _weights_classes()
    if class_name not in known_classes:
        raise UserError(
            f"torchvision has no weights {class_name!r}.{did_you_mean(class_name, known_classes)} "
            f"Expected a name such as {WEIGHTS_EXAMPLE}."
        )
    weights_class = known_classes[class_name]
    versions = list(weights_class.__members__)
    if version not in versions:
        raise UserError(
            f"{class_name} has no version {version!r}; there are: {', '.join(versions)}. "
            f"Expected a name such as {WEIGHTS_EXAMPLE}."
        )
    return weights_class[version]


def _published_weights_of_file(file: Path) -> Any | None:
    """Return torchvision's entry of the weights that it downloads under a file's name; ``None`` if there is none."""
    if not HUB_FILE_NAME.search(file.name):  # torchvision takes a second to import
        return None
    published = [entry for weights_class in _weights_classes().values() for entry in weights_class]
    return next((entry for entry in published if Path(entry.url).name == file.name), None)


def _cached_weights_file(published: Any) -> Path:
    """The file in torch's cache that holds torchvision's weights. Nothing is downloaded."""
    class_name, version = type(published).__name__, published.name
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(published.url).name
    if not file.is_file():
        raise UserError(
            f"{class_name}.{version} is not in torch's cache, {file}. Have torchvision download it once: "
            f"python -c 'from torchvision.models import {class_name} as w; w.{version}.get_state_dict()'."
        )
    return file


def _published_preprocessing(published: Any, network: Network) -> Preprocessing:
    """How torchvision prepared the images on which it measured the errors of its weights."""
    transforms = published.transforms()
    side_ratio = transforms.resize_size[0] / transforms.crop_size[0]
    if type(published).__name__ == "GoogLeNet_Weights" and not _normalizes_again(network):
        return Preprocessing(side_ratio=side_ratio, mean=HALF_RANGE, std=HALF_RANGE)
    mean, std = (tuple(255 * value for value in values) for values in (transforms.mean, transforms.std))
    return Preprocessing(side_ratio=side_ratio, mean=mean, std=std)


def _normalizes_again(network: Network) -> bool:
    """Whether it is torchvision's GoogLeNet as built with its weights: it scales normalized pixels to [-1, 1]."""
    return isinstance(network, Custom) and bool(network.init_args.get("transform_input", False))


def _describe_mismatch(
    weights_name: str, expected_shapes: TensorShapes, given_shapes: TensorShapes, scale: Scale
) -> str:
    """Why weights do not fit a network, and what to do."""
    expected, given = list(expected_shapes.values()), list(given_shapes.values())
    if expected == given:
        renamed = zip(expected_shapes, given_shapes, strict=True)
        expected_name, given_name = next(names for names in renamed if names[0] != names[1])
        prefix = given_name.removesuffix(expected_name)
        remedy = f"Remove the prefix {prefix!r} of the names" if prefix != given_name else "Rename the tensors"
        return (
            f"{weights_name} has tensors of the right shapes under other names: {given_name}, expected {expected_name}"
            f". {remedy}, and save the state dict again."
        )
    # Only the last layer's weight and bias differ: another number of classes.
    if expected[:-2] == given[:-2] and len(given[-1]) == 1:
        bias_name = list(given_shapes)[-1]
        return (
            f"{weights_name} has {given[-1][0]} classes ({bias_name}), but the folder has {expected[-1][0]}. Expected "
            "a folder with the classes of the weights, in the same alphabetical order."
        )
    reason = f"it has {len(given_shapes)} tensors, expected {len(expected_shapes)}"
    pairs = zip(expected_shapes.items(), given_shapes.items(), strict=False)
    for (expected_name, expected_shape), (given_name, given_shape) in pairs:
        if given_shape != expected_shape:
            reason = f"{given_name} is {given_shape}, expected {expected_name} {expected_shape}"
            break
    return (
        f"{weights_name} does not fit the network at {scale.resolution} pixels, {scale.channels} channels and width "
        f"{scale.width:g}: {reason}. Name the network that was trained, and its --resolution, --channels and --width."
    )
