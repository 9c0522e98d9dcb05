"""The networks as modules: torchvision's logits, every choice of a spec, LRN by its formula, shortcuts."""

from dataclasses import replace
from typing import get_args

import pytest
import torch
import torchvision
from torch import nn

from lightning_modules.networks.build import build_network, weight_layers
from lightning_modules.networks.layers import (
    ACTIVATIONS,
    NORMS_AFTER_ACTIVATION,
    NORMS_BEFORE_ACTIVATION,
    LocalResponseNorm,
    group_norm,
    local_response_norm,
)
from lightning_modules.networks.resnet import ZeroPadding
from lightning_modules.specs import networks as kinds
from lightning_modules.specs.catalogue import (
    NETWORKS,
    RESNET_20,
    RESNET_34,
    RESNET_50,
    VGG_A,
    VGG_B,
    VGG_D,
    find_network,
)
from lightning_modules.specs.errors import InvalidValue
from lightning_modules.specs.networks import Blocks, Head
from lightning_modules.specs.scale import Scale

SMALL = Scale(resolution=32, channels=3, classes=10, width=0.125)
TWINS = {
    "vgg-a": "vgg11",
    "vgg-b": "vgg13",
    "vgg-d": "vgg16",
    "vgg-e": "vgg19",
    "resnet-18": "resnet18",
    "resnet-34": "resnet34",
    "resnet-50": "resnet50",
}
# The VGG networks between the smallest and the largest take three seconds each, for what these two show.
SOME_TWINS = [
    pytest.param(ours, theirs, marks=pytest.mark.slow if ours in ("vgg-b", "vgg-d") else ())
    for ours, theirs in TWINS.items()
]


def largest_difference(mine, theirs):
    """Between a module's logits and its twin's, once it has the twin's weights and running statistics."""
    mine, theirs = mine.eval(), theirs.eval()
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for tensor, copied in zip(mine.state_dict().values(), theirs.state_dict().values(), strict=True):
            tensor.copy_(copied)
        return float((mine(images) - theirs(images)).abs().max())


@pytest.mark.parametrize(("ours", "theirs"), SOME_TWINS)
def test_torchvisions_weights_give_torchvisions_logits(ours, theirs):
    torch.manual_seed(0)
    options = {"init_weights": False} if ours.startswith("vgg") else {}
    twin = getattr(torchvision.models, theirs)(weights=None, **options)
    assert largest_difference(build_network(NETWORKS[ours], Scale()), twin) <= 1e-5


def test_batch_norm_stands_where_torchvisions_stands():
    torch.manual_seed(0)
    twin = torchvision.models.vgg11_bn(weights=None, init_weights=False)
    assert largest_difference(build_network(replace(VGG_A, norm="batch"), Scale()), twin) <= 1e-5


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_maps_a_batch_to_logits(name):
    large = name in ("alexnet", "googlenet")
    scale = replace(SMALL, resolution=96 if large else 32)
    logits = build_network(NETWORKS[name], scale).eval()(torch.zeros(3, 3, scale.resolution, scale.resolution))
    assert logits.shape == (3, 10)


CHOICES = [
    replace(VGG_A, **{field: value})
    for field, values in (
        ("norm", get_args(kinds.Norm)),
        ("activation", get_args(kinds.Activation)),
        ("pooling", get_args(kinds.Pooling)),
        ("stem", get_args(kinds.Stem)),
        ("head", (Head(pooling="average", widths=(), dropout=0.0), Head(widths=(64,)))),
    )
    for value in values
] + [
    replace(RESNET_20, shortcut=shortcut, block=block, halve_by=halve_by)
    for shortcut in get_args(kinds.Shortcut)
    for block in get_args(kinds.BlockType)
    for halve_by in ("3x3", "1x1")
]


@pytest.mark.parametrize("spec", CHOICES, ids=str)
@pytest.mark.parametrize("resolution", [128, 130])
def test_every_choice_is_built_and_learns_in_every_layer(spec, resolution):
    module = build_network(spec, replace(SMALL, resolution=resolution))
    images = torch.randn(2, 3, resolution, resolution, generator=torch.Generator().manual_seed(0))
    logits = module(images)
    assert logits.shape == (2, 10)
    logits.square().sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_a_choice_and_its_lookup_agree():
    assert set(ACTIVATIONS) == set(get_args(kinds.Activation))
    assert {*NORMS_BEFORE_ACTIVATION, *NORMS_AFTER_ACTIVATION, "none", "lrn-first"} == set(get_args(kinds.Norm))


def layers_of(spec, kind, scale=SMALL):
    return [place for place, layer in build_network(spec, scale).named_modules() if isinstance(layer, kind)]


def test_a_lrn_normalizes_once_after_its_first_activation():
    assert layers_of(NETWORKS["vgg-a-lrn"], nn.LocalResponseNorm) == ["stage1.lrn"]
    assert [name for name, _ in build_network(NETWORKS["vgg-a-lrn"], SMALL).stage1.named_children()] == [
        "conv1", "relu1", "lrn", "pool",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("norm", "kind"), [("lrn", nn.LocalResponseNorm), ("batch", nn.BatchNorm2d), ("group", nn.GroupNorm)]
)
def test_a_norm_follows_every_convolution(norm, kind):
    assert len(layers_of(replace(VGG_D, norm=norm), kind)) == 13
    assert not layers_of(VGG_D, kind)


def test_without_its_inner_activation_a_pair_is_linear():
    pair = replace(VGG_B.stages[0].convs[0], activate=False)
    stages = tuple(replace(stage, convs=(pair, stage.convs[1])) for stage in VGG_B.stages)
    assert len(layers_of(replace(VGG_B, stages=stages), nn.ReLU)) == 5 + 2
    assert len(layers_of(VGG_B, nn.ReLU)) == 10 + 2


def test_strided_pooling_keeps_weights_and_sides():
    strided, plain = (build_network(replace(VGG_A, pooling=pooling), SMALL) for pooling in ("strided", "max"))
    assert not [layer for layer in strided.modules() if isinstance(layer, nn.MaxPool2d)]
    assert [tuple(weight.shape) for weight in strided.parameters()] == [
        tuple(weight.shape) for weight in plain.parameters()
    ]
    assert strided[:5](torch.zeros(1, 3, 32, 32)).shape == plain[:5](torch.zeros(1, 3, 32, 32)).shape


def test_the_stem_is_resnets():
    module = build_network(replace(VGG_A, stem="7x7"), Scale(resolution=224, classes=10))
    assert module.stem(torch.zeros(1, 3, 224, 224)).shape == (1, 64, 56, 56)


def test_an_image_too_small_for_the_poolings_is_refused():
    with pytest.raises(InvalidValue, match=r"resolution is 32; expected 128 pixels or more: .* halves its map 7 times"):
        build_network(replace(VGG_A, stem="7x7"), SMALL)


def test_global_average_pooling_leaves_one_number_per_channel():
    module = build_network(replace(VGG_A, head=Head(pooling="average", widths=(), dropout=0.0)), Scale(classes=10))
    assert [tuple(layer.weight.shape) for place, layer in weight_layers(module) if "head" in place] == [(10, 512)]


@pytest.mark.parametrize(("channels", "groups"), [(512, 32), (64, 32), (32, 16), (8, 4), (58, 2), (7, 1), (1, 1)])
def test_group_norm_has_32_groups_at_most_and_two_channels_in_each_where_it_can(channels, groups):
    assert group_norm(channels).num_groups == groups


def test_local_response_norm_is_alexnets_formula():
    maps = torch.randn(2, 7, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = torch.empty_like(maps)
    for channel in range(7):
        window = maps[:, max(0, channel - 2) : channel + 3]
        expected[:, channel] = maps[:, channel] / (2 + 1e-4 * window.square().sum(1)) ** 0.75
    torch.testing.assert_close(local_response_norm()(maps), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", [4, 5])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_local_response_norm_and_its_gradient_are_pytorchs(size, layout):
    maps = torch.randn(2, 7, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found, expected = [], []
    for kind, results in ((LocalResponseNorm, found), (nn.LocalResponseNorm, expected)):
        x = maps.clone(memory_format=layout).requires_grad_()
        y = kind(size, alpha=0.3, beta=0.75, k=2.0)(x)
        results += [y.detach(), *torch.autograd.grad((y * maps.flip(1)).sum(), x)]
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_local_response_norm_computes_in_single_precision_at_least():
    maps = torch.randn(2, 7, 3, 3, generator=torch.Generator().manual_seed(2)).bfloat16().requires_grad_()
    normalized = local_response_norm()(maps)
    normalized.sum().backward()
    assert normalized.dtype == torch.float32
    assert maps.grad.dtype == torch.bfloat16


def test_a_zero_padded_shortcut_keeps_every_second_position_and_learns_nothing():
    maps = torch.arange(2 * 3 * 4 * 4, dtype=torch.float32).reshape(2, 3, 4, 4)
    out = ZeroPadding(3, 5, 2)(maps)
    assert out.shape == (2, 5, 2, 2)
    assert torch.equal(out[:, :3], maps[:, :, ::2, ::2])
    assert not out[:, 3:].any()
    assert not list(ZeroPadding(3, 5, 2).parameters())


@pytest.mark.parametrize("spec", [RESNET_20, RESNET_34, RESNET_50])
def test_a_plain_network_is_the_residual_one_without_its_shortcuts(spec):
    plain, identity = (build_network(replace(spec, shortcut=shortcut), SMALL) for shortcut in ("none", "identity"))
    assert [(name, weight.shape) for name, weight in plain.named_parameters()] == [
        (name, weight.shape) for name, weight in identity.named_parameters()
    ]
    identity.load_state_dict(plain.state_dict())
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert not torch.allclose(plain.eval()(images), identity.eval()(images))


@pytest.mark.parametrize(
    ("shortcut", "projections"), [("none", 0), ("identity", 0), ("projection", 2), ("projection-all", 9)]
)
def test_projections_stand_where_the_option_says(shortcut, projections):
    places = layers_of(replace(RESNET_20, shortcut=shortcut), nn.Conv2d)
    assert sum("shortcut" in place for place in places) == projections


@pytest.mark.parametrize(("halve_by", "strided"), [("3x3", "conv2"), ("1x1", "conv1")])
def test_a_bottleneck_halves_the_map_where_it_says(halve_by, strided):
    spec = replace(RESNET_50, halve_by=halve_by, stages=(Blocks(width=64, count=1), Blocks(width=128, count=1)))
    block = build_network(spec, Scale(classes=10)).stage2.block1
    assert {name: getattr(block, name).stride[0] for name in ("conv1", "conv2", "conv3")} == {
        name: 2 if name == strided else 1 for name in ("conv1", "conv2", "conv3")
    }


def test_an_unknown_network_suggests_the_nearest():
    with pytest.raises(InvalidValue, match=r"No network named 'vgg-dd'\. Did you mean 'vgg-d'"):
        find_network("vgg-dd")


def test_an_identity_shortcut_drops_no_channels():
    narrower = (Blocks(width=32, count=1), Blocks(width=16, count=1))
    with pytest.raises(InvalidValue, match=r"ResNet\.stages .* expected widths that do not shrink from stage to stage"):
        replace(RESNET_20, shortcut="identity", stages=narrower)
    assert replace(RESNET_20, shortcut="projection", stages=narrower).stages == narrower
