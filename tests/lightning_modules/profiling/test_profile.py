"""The profile against the papers' counts, PyTorch's flop counter, torchvision's figures, and measured gradients."""

from dataclasses import replace
from functools import cache

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from lightning_modules.networks.build import build_network
from lightning_modules.profiling.profile import profile_module, profile_spec
from lightning_modules.specs.catalogue import (
    ALEXNET,
    GOOGLENET,
    NETWORKS,
    PLAIN_18,
    PLAIN_20,
    RESNET_18,
    RESNET_18_A,
    RESNET_20,
    RESNET_34,
    RESNET_34_C,
    RESNET_50,
    RESNET_101,
    VGG_A,
    VGG_B,
    VGG_B_5X5,
    VGG_C,
    VGG_D,
    VGG_E,
)
from lightning_modules.specs.errors import InvalidValue, UserError
from lightning_modules.specs.networks import Custom, Head
from lightning_modules.specs.scale import Scale

SMALL_IMAGES = Scale(resolution=32, classes=10)
NARROW = Scale(channels=1, classes=10, width=1 / 64)
OF_SMALL_IMAGES = ("20", "32", "44", "56", "110")
WITHOUT_A_NUMBER = {"vgg-a": 11, "vgg-a-lrn": 11, "vgg-b": 13, "vgg-b-5x5": 8, "vgg-c": 16, "vgg-d": 16, "vgg-e": 19,
                    "alexnet": 8, "googlenet": 22}  # fmt: skip


def scale_of(name):
    return SMALL_IMAGES if name.split("-")[1:2] and name.split("-")[1] in OF_SMALL_IMAGES else Scale()


profile_once = cache(profile_spec)  # several tests look at one network


# --- What is counted -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_multiply_adds_are_half_of_what_pytorchs_counter_finds(name):
    scale = scale_of(name)
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        build_network(NETWORKS[name], scale).eval()(torch.empty(1, 3, scale.resolution, scale.resolution))
    found = profile_once(NETWORKS[name], scale_of(name))
    assert 2 * found.multiply_adds == counter.get_total_flops()
    assert found.uncounted == ()


@pytest.mark.parametrize("name", NETWORKS)
def test_every_parameter_is_counted_once(name):
    with torch.device("meta"):
        module = build_network(NETWORKS[name], scale_of(name))
    found = profile_once(NETWORKS[name], scale_of(name))
    assert found.parameters + found.idle_parameters == sum(each.numel() for each in module.parameters())
    assert found.parameters == sum(layer.parameters for layer in found.layers)
    assert found.multiply_adds == sum(layer.multiply_adds for layer in found.layers)


@pytest.mark.parametrize("name", NETWORKS)
def test_weight_layers_are_those_that_the_papers_count(name):
    expected = WITHOUT_A_NUMBER.get(name) or int(name.split("-")[1])
    assert profile_once(NETWORKS[name], scale_of(name)).weight_layers == expected


# From the papers' tables, not by this code: exact, at 224 pixels and 1,000 classes; parameters rounded to millions are
# VGG's Table 2. In order: parameters, those of convolutions, multiply-adds, receptive field, ReLUs, weight layers.
VGG_COUNTS = {
    "vgg-a": (132863336, 9220480, 7609090048, 150, 8, 11),
    "vgg-a-lrn": (132863336, 9220480, 7609090048, 150, 8, 11),
    "vgg-b": (133047848, 9404992, 11308466176, 156, 10, 13),
    "vgg-b-5x5": (134503528, 10860672, 9356017664, 156, 5, 8),
    "vgg-c": (133638952, 9996096, 11770888192, 156, 13, 16),
    "vgg-d": (138357544, 14714688, 15470264320, 212, 13, 16),
    "vgg-e": (143667240, 20024384, 19632062464, 268, 16, 19),
}


@pytest.mark.parametrize(("name", "counts"), VGG_COUNTS.items())
def test_counts_of_vgg_networks_are_the_papers(name, counts):
    parameters, conv_parameters, multiply_adds, receptive_field, nonlinearities, layers = counts
    assert profile_once(NETWORKS[name], Scale()).properties() == {
        "weight_layers": layers,
        "parameters": parameters,
        "conv_parameters": conv_parameters,
        "multiply_adds": multiply_adds,
        "receptive_field": receptive_field,
        "nonlinearities": nonlinearities,
    }


# From the paper's tables, not by this code: parameters and multiply-adds.
RESNET_COUNTS = {
    "plain-18": (11515688, 1794805760),
    "plain-34": (21623848, 3644493824),
    "resnet-18-a": (11515688, 1794805760),
    "resnet-34-a": (21623848, 3644493824),
    "resnet-18": (11689512, 1814073344),
    "resnet-34": (21797672, 3663761408),
    "resnet-50": (25557032, 4089184256),
    "resnet-101": (44549160, 7801405440),
    "resnet-152": (60192808, 11513626624),
    "resnet-50-v1": (25557032, 3857973248),  # the stride is that of the first 1 × 1 convolution
    "resnet-101-v1": (44549160, 7570194432),
    "resnet-152-v1": (60192808, 11282415616),
}
# He et al. 2016, Table 1: multiply-adds in units of 1e9, as printed.
PAPER_BILLIONS = {
    "resnet-18": 1.8,
    "resnet-34": 3.6,
    "resnet-50-v1": 3.8,
    "resnet-101-v1": 7.6,
    "resnet-152-v1": 11.3,
}
# With shortcuts of kind A; parameters are the 0.27M to 1.7M of ResNet's Table 6.
SMALL_RESNET_COUNTS = {
    "20": (269722, 40551040),
    "32": (464154, 68862592),
    "44": (658586, 97174144),
    "56": (853018, 125485696),
    "110": (1727962, 252887680),
}
# torchvision: num_params of the weights' metadata, and its _ops in units of 1e9, rounded.
TORCHVISION_COUNTS = {"alexnet": (61100840, 0.714), "googlenet": (6624904, 1.498), "resnet-34": (21797672, 3.664)}


def counts(network, scale):
    found = profile_once(network, scale)
    return found.parameters, found.multiply_adds


@pytest.mark.parametrize(("name", "expected"), RESNET_COUNTS.items())
def test_counts_of_residual_networks_are_the_papers(name, expected):
    assert counts(NETWORKS[name], Scale()) == expected


@pytest.mark.parametrize(("name", "billions"), PAPER_BILLIONS.items())
def test_multiply_adds_are_those_that_the_paper_prints(name, billions):
    # The paper rounds or truncates to one decimal.
    assert profile_once(NETWORKS[name], Scale()).multiply_adds / 1e9 == pytest.approx(billions, abs=0.1)


@pytest.mark.parametrize("layers", ["50", "101", "152"])
def test_the_paper_prints_other_multiply_adds_than_those_of_torchvisions_bottlenecks(layers):
    found = profile_once(NETWORKS[f"resnet-{layers}"], Scale()).multiply_adds / 1e9
    assert found - PAPER_BILLIONS[f"resnet-{layers}-v1"] > 0.2


@pytest.mark.parametrize("family", ["plain", "resnet"])
@pytest.mark.parametrize(("layers", "expected"), SMALL_RESNET_COUNTS.items())
def test_counts_at_32_pixels_are_the_papers(family, layers, expected):
    assert counts(NETWORKS[f"{family}-{layers}"], SMALL_IMAGES) == expected


@pytest.mark.slow
def test_a_residual_network_of_1202_layers_has_the_papers_counts():
    network = replace(RESNET_20, stages=tuple(replace(stage, count=200) for stage in RESNET_20.stages))
    found = profile_spec(network, SMALL_IMAGES)
    assert (found.weight_layers, found.parameters, found.multiply_adds) == (1202, 19421274, 2829238912)


@pytest.mark.parametrize(("name", "expected"), TORCHVISION_COUNTS.items())
def test_counts_are_torchvisions(name, expected):
    parameters, billions = expected
    found = profile_once(NETWORKS[name], Scale())
    assert found.parameters == parameters
    assert round(found.multiply_adds / 1e9, 3) == billions


@pytest.mark.parametrize(
    ("network", "expected"),  # a head of one layer at 32 pixels
    [
        (VGG_A, (9225610, 152769536)),
        (VGG_B, (9410122, 228267008)),
        (VGG_C, (10001226, 237704192)),
        (VGG_D, (14719818, 313201664)),
        (VGG_E, (20029514, 398136320)),
        (VGG_B_5X5, (10865802, 188421120)),
    ],
    ids=["A", "B", "C", "D", "E", "B-5x5"],
)
def test_counts_of_vgg_networks_with_one_fully_connected_layer(network, expected):
    assert counts(replace(network, head=Head(widths=())), SMALL_IMAGES) == expected


def test_googlenets_auxiliary_heads_are_idle_in_inference():
    found = profile_once(GOOGLENET, Scale())
    assert found.idle_parameters == 13004888 - 6624904
    assert not any(layer.place.startswith("aux") for layer in found.layers)


def test_an_auxiliary_output_in_inference_counts_toward_the_costs_and_not_toward_the_depth():
    class TwoHeads(nn.Module):
        def __init__(self):
            super().__init__()
            self.short, self.first, self.second = nn.Conv2d(3, 5, 8), nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3)

        def forward(self, image):
            return self.short(image).mean((2, 3)), self.second(self.first(image)).mean((2, 3))

    found = profile_module(TwoHeads(), (3, 8, 8))
    assert found.weight_layers == 1
    assert found.idle_parameters == 0


# --- What is seen --------------------------------------------------------------------------------------------------


def before_the_head(module):
    return nn.Sequential(
        *(part for name, part in module.named_children() if name not in ("average", "flatten", "head"))
    )


def measured_field(features, channels, side):
    """The side of what moves one inner position of the last map: pixels with a gradient, with all weights positive.

    A maximum passes the gradient to one pixel; a mean over the same window passes it to all that the window sees.
    """
    for part in features.modules():
        for name, child in part.named_children():
            if isinstance(child, nn.MaxPool2d):
                mean = nn.AvgPool2d(child.kernel_size, child.stride, child.padding, child.ceil_mode)
                setattr(part, name, mean)
    for parameter in features.parameters():
        weights = parameter.dim() > 1
        nn.init.constant_(parameter, 1 / parameter[0].numel() if weights else 1)
    image = torch.ones(1, channels, side, side, dtype=torch.float64, requires_grad=True)
    maps = features.double().eval()(image)
    maps[0, :, maps.shape[2] // 2, maps.shape[3] // 2].sum().backward()
    reached = image.grad[0].abs().sum(0).nonzero()
    first, last = reached.min(0).values, reached.max(0).values
    assert first.min() > 0, "the image is too small"
    assert last.max() < side - 1, "the image is too small"
    return int((last - first).max()) + 1


def with_blocks(network, *blocks):
    return replace(
        network, stages=tuple(replace(stage, count=n) for stage, n in zip(network.stages, blocks, strict=False))
    )


MEASURED = {name: network for name, network in NETWORKS.items() if name.startswith("vgg")} | {
    "vgg-a, stem": replace(VGG_A, stem="7x7"),
    "vgg-d, strided": replace(VGG_D, pooling="strided"),
    "vgg-c, strided": replace(VGG_C, pooling="strided"),
    "vgg-a, average": replace(VGG_A, pooling="average"),
    "vgg-a, batch norm": replace(VGG_A, norm="batch"),
    "resnet-18": RESNET_18,
    "resnet-18-a": RESNET_18_A,
    "plain-18": PLAIN_18,
    "resnet-34": RESNET_34,
    "resnet-34-c, fewer blocks": with_blocks(RESNET_34_C, 1, 2, 1, 2),
    "resnet-50": RESNET_50,
    "resnet-50, halved by 1x1": with_blocks(replace(RESNET_50, halve_by="1x1"), 1, 2, 2, 1),
    "resnet-101, fewer blocks": with_blocks(RESNET_101, 1, 2, 5, 1),
    "resnet-20": RESNET_20,
    "plain-20": PLAIN_20,
}


@pytest.mark.parametrize(("name", "network"), MEASURED.items(), ids=MEASURED)
def test_the_receptive_field_is_where_the_gradient_reaches(name, network):
    found = profile_spec(network, replace(NARROW, resolution=224)).receptive_field
    side = 32 * (found // 32 + 5)
    module = before_the_head(build_network(network, replace(NARROW, resolution=side)))
    assert measured_field(module, 1, side) == found


def test_the_receptive_field_of_googlenet_is_where_the_gradient_reaches():
    """Its first four blocks, with the pooling after the last, and without its head: 8 × 8 positions of 256 pixels."""
    module = torchvision.models.googlenet(weights=None, aux_logits=False, init_weights=False)
    later = ("inception4c", "inception4d", "inception4e", "inception5a", "inception5b")
    for last in (*later, "avgpool", "dropout"):
        setattr(module, last, nn.Identity())
    module.fc = Unflattened(8)
    assert measured_field(module, 3, 256) == profile_module(module, (3, 256, 256)).receptive_field


class Unflattened(nn.Module):
    def __init__(self, side):
        super().__init__()
        self.side = side

    def forward(self, flat):
        return flat.reshape(1, -1, self.side, self.side)


class Branches(nn.Module):
    """Inception's way: windows of several sizes side by side, one of them dilated, one a pooling."""

    def __init__(self):
        super().__init__()
        self.one, self.three = nn.Conv2d(1, 2, 1), nn.Conv2d(1, 2, 3, padding=1)
        self.wide = nn.Conv2d(1, 2, 3, padding=4, dilation=4)
        self.last = nn.Conv2d(7, 2, 3, stride=2, padding=1)

    def forward(self, maps):
        pooled = functional.avg_pool2d(maps, 3, 1, 1)
        joined = torch.cat([functional.relu(self.one(maps)), self.three(maps), self.wide(maps), pooled], 1)
        return self.last(joined)


class OneSided(nn.Module):
    """Windows that are no squares, padding on one side, a crop."""

    def __init__(self):
        super().__init__()
        self.flat, self.tall = nn.Conv2d(1, 1, (1, 7), stride=(1, 2)), nn.Conv2d(1, 1, (3, 1), stride=(2, 1))

    def forward(self, maps):
        maps = self.tall(self.flat(functional.pad(maps, (3, 2, 0, 1))))
        return maps[:, :, 1:, ::2] + maps[:, :, :-1, ::2]


class ChannelsLast(nn.Module):
    """ConvNeXt's way: positions first, a fully connected layer for the channels, a residual sum."""

    def __init__(self):
        super().__init__()
        self.spatial, self.norm = nn.Conv2d(2, 2, 7, padding=3, groups=2), nn.LayerNorm(2)
        self.widen, self.narrow = nn.Linear(2, 8), nn.Linear(8, 2)

    def forward(self, maps):
        maps = maps.repeat(1, 2, 1, 1) if maps.shape[1] == 1 else maps
        inner = self.norm(self.spatial(maps).permute(0, 2, 3, 1) * 1.0)
        return maps + self.narrow(functional.relu(self.widen(inner))).permute(0, 3, 1, 2)


class Shuffled(nn.Module):
    """ShuffleNet's way: halves of the channels, one convolved, then interleaved."""

    def __init__(self):
        super().__init__()
        self.conv, self.last = nn.Conv2d(1, 1, 5, padding=2), nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, maps):
        left, right = torch.cat([maps, maps], 1).chunk(2, 1)
        both = torch.cat([left, self.conv(right)], 1)
        batch, channels, height, width = both.shape
        mixed = both.view(batch, 2, channels // 2, height, width).transpose(1, 2).reshape(both.shape)
        return self.last(mixed[:, 1:])


class Written(nn.Module):
    """Maps written into a part of a tensor of zeros."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, maps):
        wider = maps.new_zeros(1, 3, *maps.shape[2:])
        wider[:, :1] = self.conv(maps)
        return wider


@pytest.mark.parametrize("kind", [Branches, OneSided, Shuffled, Written])
def test_any_module_is_followed_where_its_operations_keep_positions(kind):
    module = nn.Sequential(kind(), nn.AvgPool2d(2))
    found = profile_module(module, (1, 64, 64)).receptive_field
    assert measured_field(module, 1, 64) == found


def test_positions_are_followed_when_channels_come_last(monkeypatch):
    monkeypatch.setattr(nn.LayerNorm, "forward", lambda _, maps: maps)  # all equal inputs have no deviation
    module = nn.Sequential(ChannelsLast(), ChannelsLast())
    assert measured_field(module, 1, 64) == profile_module(module, (1, 64, 64)).receptive_field == 13


def test_of_two_sides_the_longer_one_is_told():
    assert profile_module(nn.Conv2d(3, 4, (3, 9)), (3, 32, 32)).receptive_field == 9


class Squeezed(nn.Module):
    """Squeeze-and-excitation: every position is scaled by what all of them together say."""

    def __init__(self):
        super().__init__()
        self.before, self.gate, self.after = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3)

    def forward(self, image):
        maps = self.before(image)
        return self.after(maps * torch.sigmoid(self.gate(functional.adaptive_avg_pool2d(maps, 1))))


class Attending(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches, self.mix = nn.Conv2d(3, 8, 8, 8), nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, image):
        tokens = self.patches(image).flatten(2).transpose(1, 2)
        return self.mix(tokens, tokens, tokens, need_weights=False)[0]


@pytest.mark.parametrize(
    "module",
    [
        Squeezed(),
        Attending(),
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.Upsample(scale_factor=2), nn.Conv2d(4, 4, 3)),
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.ConvTranspose2d(4, 4, 2, stride=2)),
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.PixelShuffle(2)),
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(7)),
    ],
    ids=["squeeze", "attention", "upsample", "transposed", "shuffle", "uneven windows"],
)
def test_a_field_that_cannot_be_known_is_left_out(module):
    found = profile_module(module, (3, 32, 32))
    assert found.layers[0].receptive_field in (3, 8)
    assert found.layers[-1].receptive_field is None
    assert found.receptive_field is None
    assert "receptive_field" not in found.properties()


def test_the_field_of_a_network_is_that_of_the_last_map():
    module = nn.Sequential(nn.Conv2d(3, 4, 5), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    found = profile_module(module, (3, 32, 32))
    assert found.receptive_field == 5
    assert [layer.receptive_field for layer in found.layers] == [5, 0, 0]


# --- Layers and functions ------------------------------------------------------------------------------------------


class Functional(nn.Module):
    """Its parameters are its own, some are used twice, some never; it calls functions."""

    def __init__(self):
        super().__init__()
        self.kernel = nn.Parameter(torch.ones(6, 1, 3, 3))
        self.gain = nn.Parameter(torch.ones(6, 1, 1))
        self.unused = nn.Parameter(torch.ones(7))
        self.twice = nn.Conv2d(6, 6, 3, padding=2, dilation=2, groups=3, bias=False)
        self.head = nn.Linear(6, 2)

    def forward(self, image):
        maps = functional.relu(functional.conv2d(image, self.kernel, padding=1, groups=3)) * self.gain
        maps = torch.tanh(maps + self.twice(self.twice(maps)) + maps)
        return functional.softmax(self.head(maps.mean((2, 3)).relu()), -1)


def test_functions_that_a_module_calls_are_rows_and_are_counted():
    found = profile_module(Functional(), (3, 8, 8))
    assert found.functions == {"add": 2, "conv2d": 1, "mean": 1, "mul": 1, "relu": 2, "softmax": 1, "tanh": 1}
    assert [layer.place for layer in found.layers] == [
        "conv2d", "relu1", "mul", "twice", "twice", "add1", "add2", "tanh", "mean", "relu2", "head", "softmax",
    ]  # fmt: skip
    assert found.layers[0].output == (6, 8, 8)
    assert found.layers[0].kind == "conv2d"


def test_shared_and_unused_parameters_of_a_functional_module():
    found = profile_module(Functional(), (3, 8, 8))
    assert found.parameters == 54 + 6 + 108 + 14
    assert found.idle_parameters == 7
    assert found.conv_parameters == 54 + 108
    assert [layer.parameters for layer in found.layers if layer.place == "twice"] == [108, 0]
    assert sum(layer.parameters for layer in found.layers) == found.parameters


def test_groups_dilation_and_functions_in_a_functional_module():
    found = profile_module(Functional(), (3, 8, 8))
    assert found.multiply_adds == 64 * (54 + 108 + 108) + 12
    assert found.weight_layers == 4
    assert found.receptive_field == 3 + 4 + 4
    assert found.nonlinearities == 2


def test_a_weight_that_is_made_of_parameters_is_theirs():
    module = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3))
    found = profile_module(module, (3, 8, 8))
    assert (found.parameters, found.idle_parameters) == (4 + 108 + 4, 0)
    assert found.conv_parameters == found.parameters


def test_parameters_that_two_layers_share_count_once():
    module = nn.Sequential(nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3))
    module[1].weight = module[0].weight
    assert profile_module(module, (4, 8, 8)).parameters == 4 * 4 * 9 + 4 + 4


def test_a_shortcuts_sum_is_a_row_of_its_block():
    places = [layer.place for layer in profile_once(RESNET_20, SMALL_IMAGES).layers]
    assert places[:3] == ["stem.conv", "stem.norm", "stem.relu"]
    assert "stage1.block1.add" in places
    assert "stage2.block1.shortcut" in places
    assert places[-2:] == ["average", "head.fc1"]


def test_every_layer_knows_its_place_on_the_longest_path():
    depth = {layer.place: layer.depth for layer in profile_once(RESNET_50, Scale()).layers}
    assert depth["stem.pool"] == 1
    assert depth["stage1.block1.shortcut.conv"] == 2
    assert depth["stage1.block1.add"] == 4
    assert depth["head.fc1"] == 50


def test_what_only_names_or_moves_numbers_is_no_layer():
    kinds = {layer.kind for layer in profile_once(VGG_A, Scale()).layers}
    assert kinds == {"Conv2d", "ReLU", "MaxPool2d", "Linear"}
    assert profile_once(VGG_A, Scale()).functions == {}


@pytest.mark.parametrize(
    "activation",
    [nn.ReLU(), nn.ReLU(inplace=True), nn.ReLU6(), nn.GELU(), nn.Tanh(), nn.Sigmoid(), nn.SiLU(), nn.LeakyReLU(),
     nn.ELU(), nn.SELU(), nn.CELU(), nn.PReLU(), nn.RReLU(), nn.Hardtanh(), nn.Hardswish(), nn.Hardsigmoid(),
     nn.Mish(), nn.Softplus(), nn.LogSigmoid(), nn.Hardshrink(), nn.Softshrink(), nn.Threshold(0, 0),
     nn.Softsign(), nn.Tanhshrink()],
    ids=str,
)  # fmt: skip
def test_every_elementwise_activation_of_a_map_is_a_nonlinearity(activation):
    module = nn.Sequential(nn.Conv2d(3, 4, 3), activation, nn.Softmax2d(), nn.Flatten(), activation)
    found = profile_module(module, (3, 8, 8))
    assert found.nonlinearities == 1
    assert found.receptive_field == 3


class Between(nn.Module):
    """A convolution, and a function of its map."""

    def __init__(self, function):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.function = function

    def forward(self, images):
        return self.function(self.conv(images))


@pytest.mark.parametrize(
    ("function", "count"),
    [
        *((function, 1) for function in (
            lambda x: x.clamp(min=0), lambda x: x.clamp_(0, 6), lambda x: torch.maximum(x, torch.zeros_like(x)),
            lambda x: torch.max(x, -x), torch.abs, torch.sin, torch.erf, lambda x: functional.glu(x, 1),
            lambda x: torch.where(x > 0, x, 0.1 * x), lambda x: x.masked_fill(x < 0, 0), lambda x: x * (x > 0),
            lambda x: x * (x > 0).float(), lambda x: x * (x > 0).to(x.dtype),
            lambda x: x * torch.heaviside(x, torch.zeros(())), lambda x: x.unflatten(1, (2, 2)).amax(2),
            lambda x: x.unflatten(1, (2, 2)).max(1)[0], lambda x: torch.stack([x, -x]).amax(0),
        )),
        # A mask that does not depend on the image is linear; a norm over channels is no element-wise function.
        *((function, 0) for function in (
            lambda x: torch.where(torch.ones_like(x) > 0, x, torch.zeros_like(x)), lambda x: x * 2,
            lambda x: x * (torch.ones_like(x) > 0).float(), lambda x: x - x.amax(1, keepdim=True),
            lambda x: x.amax((2, 3), keepdim=True), lambda x: x.unflatten(3, (2, 3)).amax(-1),
            functional.normalize, nn.LocalResponseNorm(5), lambda x: x / x.pow(2).mean(1, keepdim=True).sqrt(),
        )),
    ],
)  # fmt: skip
def test_a_nonlinearity_written_by_hand_counts(function, count):
    assert profile_module(Between(function), (3, 8, 8)).nonlinearities == count


@pytest.mark.parametrize(
    ("function", "count"),
    [
        (lambda x: x / x.abs().mean(), 1), (lambda x: x / (x.var((2, 3), keepdim=True).clamp(min=0) + 1e-5).sqrt(), 1),
        (lambda x: x / torch.maximum(x.pow(2).sum(1, keepdim=True).sqrt(), torch.tensor(1e-6)), 1),
        (lambda x: functional.cosine_similarity(x, x.flip(1)), 2),
    ],
)  # fmt: skip
def test_a_normalization_by_a_clamp_at_zero_or_an_absolute_value_counts_as_documented(function, count):
    assert profile_module(Between(function), (3, 8, 8)).nonlinearities == count


def test_attention_is_counted():
    module = Attending()
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        Attending().eval()(torch.empty(1, 3, 32, 32))
    found = profile_module(module, (3, 32, 32))
    assert 2 * found.multiply_adds == counter.get_total_flops()
    assert [layer.kind for layer in found.layers] == ["Conv2d", "MultiheadAttention"]
    assert found.parameters == sum(each.numel() for each in module.parameters())


def test_arithmetic_that_no_rule_covers_is_named():
    class Fourier(nn.Module):
        def forward(self, image):
            return torch.fft.rfft2(image).abs()

    assert profile_module(Fourier(), (3, 8, 8)).uncounted == ("fft_r2c",)


def test_a_module_with_content_has_the_same_profile_as_one_without():
    module = torchvision.models.resnet18(weights=None)
    assert profile_module(module, (3, 64, 64)) == profile_module(module.to("meta"), (3, 64, 64))


def test_a_network_that_asks_for_a_tensors_content_is_profiled_with_it():
    regnet = Custom(class_path="torchvision.models.regnet_y_400mf", init_args={"num_classes": "$classes"})
    state = torch.random.get_rng_state()
    assert profile_spec(regnet, Scale()).parameters == 4344144  # torchvision's num_params
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_profile_leaves_the_module_as_it_was():
    module = torchvision.models.resnet18(weights=None)
    module.layer1.eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    fast = torch.backends.mha.get_fastpath_enabled()
    profile_module(module, (3, 64, 64))
    assert module.training
    assert not any(part.training for part in module.layer1.modules())
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())
    assert torch.backends.mha.get_fastpath_enabled() is fast


# --- UserError --------------------------------------------------------------------------------------------------------


def test_an_image_that_is_too_small_is_told_with_the_place():
    text = r"AlexNet fails on an image of 3 x 32 x 32, in features\.12 \(MaxPool2d\): .*Output size is too small"
    with pytest.raises(UserError, match=text):
        profile_spec(ALEXNET, SMALL_IMAGES)


def test_a_module_that_fails_is_left_as_it_was():
    module = nn.Sequential(nn.Conv2d(3, 4, 9))
    with pytest.raises(UserError, match=r"Sequential fails on an image of 3 x 8 x 8, in 0 \(Conv2d\): "):
        profile_module(module, (3, 8, 8))
    assert module.training
    assert not module[0]._forward_hooks


@pytest.mark.parametrize(
    ("network", "text"),
    [
        (Custom(class_path="torchvision.models.alexnet"), r"AlexNet gives the shape \(1, 1000\) for one image; "
         r"expected \(batch, classes\), which is \(1, 10\)"),
        (Custom(class_path="torch.nn.Identity"), r"Identity gives the shape \(1, 3, 224, 224\)"),
        (
            Custom(class_path="tests.lightning_modules.profiling.test_profile.Named"),
            r"Named gives a dict for one image",
        ),
    ],
    ids=["classes", "map", "dict"],
)  # fmt: skip
def test_a_network_that_gives_no_logits_is_told(network, text):
    with pytest.raises(UserError, match=text):
        profile_spec(network, Scale(classes=10))


def test_of_several_outputs_the_first_must_be_logits():
    network = Custom(class_path="tests.lightning_modules.profiling.test_profile.Several")
    assert profile_spec(network, Scale(classes=10)).weight_layers == 1


def test_a_resolution_that_is_too_small_for_the_poolings_is_told():
    with pytest.raises(InvalidValue, match="expected 32 pixels or more"):
        profile_spec(VGG_A, Scale(resolution=8))


class Named(nn.Module):
    def forward(self, image):
        return {"out": image}


class Several(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Conv2d(3, 10, 3)

    def forward(self, image):
        return self.head(image).mean((2, 3)), image
