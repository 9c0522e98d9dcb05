"""The catalogue against the papers' counts, torchvision's modules and PyTorch's own flop counter."""

from dataclasses import replace

import pytest
import torch
import torchvision
from torch.utils.flop_counter import FlopCounterMode

from lightning_modules.build import DEVIATIONS, build, initialise, local_response_norm, weight_layers
from lightning_modules.catalogue import NETWORKS, VGG_A, VGG_C, VGG_E, network
from lightning_modules.profile import profile, profile_module
from lightning_modules.spec import Scale
from lightning_modules.values import InvalidValue

SMALL = Scale(resolution=32, channels=3, classes=10, width=0.125)

# Exact counts at 224 pixels and 1,000 classes; parameters rounded to millions are VGG's Table 2.
COUNTS = {
    "vgg-a": (132863336, 9220480, 7609090048, 150, 8, 11),
    "vgg-a-lrn": (132863336, 9220480, 7609090048, 150, 8, 11),
    "vgg-b": (133047848, 9404992, 11308466176, 156, 10, 13),
    "vgg-c": (133638952, 9996096, 11770888192, 156, 13, 16),
    "vgg-d": (138357544, 14714688, 15470264320, 212, 13, 16),
    "vgg-e": (143667240, 20024384, 19632062464, 268, 16, 19),
}
TWINS = {"vgg-a": "vgg11", "vgg-b": "vgg13", "vgg-d": "vgg16", "vgg-e": "vgg19"}


@pytest.mark.parametrize("name", NETWORKS)
def test_counts_are_the_papers(name):
    found = profile(NETWORKS[name], Scale())
    parameters, conv_parameters, multiply_adds, receptive_field, nonlinearities, layers = COUNTS[name]
    assert found.properties() == {
        "weight_layers": layers,
        "parameters": parameters,
        "conv_parameters": conv_parameters,
        "multiply_adds": multiply_adds,
        "receptive_field": receptive_field,
        "nonlinearities": nonlinearities,
    }


@pytest.mark.parametrize("name", NETWORKS)
def test_counts_are_those_of_an_independent_counter(name):
    with torch.device("meta"):
        module = build(NETWORKS[name], Scale())
        with FlopCounterMode(display=False) as counter:
            module(torch.empty(1, 3, 224, 224))
    found = profile(NETWORKS[name], Scale())
    assert found.parameters == sum(parameter.numel() for parameter in module.parameters())
    assert 2 * found.multiply_adds == counter.get_total_flops()


@pytest.mark.parametrize("name", NETWORKS)
def test_the_receptive_field_is_where_the_gradient_reaches(name):
    """Measured: the pixels that move one position of the last map, in a network whose weights are all positive."""
    scale = replace(SMALL, resolution=320, channels=1, width=2 / 64)
    module = build(NETWORKS[name], scale)[: len(NETWORKS[name].stages)]
    average_pooled(module)
    for _, layer in weight_layers(module):
        torch.nn.init.constant_(layer.weight, 0.1)
    image = torch.ones(1, 1, 320, 320, requires_grad=True)
    last = module(image)
    last[0, 0, 5, 5].backward()
    reached = image.grad[0, 0].abs().sum(0).nonzero()
    assert reached.max() - reached.min() + 1 == profile(NETWORKS[name], scale).receptive_field


def average_pooled(module):
    """A maximum passes the gradient to one pixel; a mean over the same window passes it to all that the window sees."""
    for stage in module:
        stage.pool = torch.nn.AvgPool2d(2)


@pytest.mark.parametrize(("ours", "theirs"), TWINS.items())
def test_torchvisions_weights_give_torchvisions_logits(ours, theirs):
    twin = getattr(torchvision.models, theirs)(weights=None, init_weights=False).eval()
    module = build(NETWORKS[ours], Scale()).eval()
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for mine, copied in zip(module.parameters(), twin.parameters(), strict=True):
            mine.copy_(copied)
        torch.testing.assert_close(module(images), twin(images), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_maps_a_batch_to_logits(name):
    logits = build(NETWORKS[name], SMALL)(torch.zeros(3, 3, 32, 32))
    assert logits.shape == (3, 10)


def test_only_a_lrn_normalises_and_only_once():
    normalised = {name: [kind for kind in kinds(name) if kind == "LocalResponseNorm"] for name in NETWORKS}
    assert {name for name, found in normalised.items() if found} == {"vgg-a-lrn"}
    assert len(normalised["vgg-a-lrn"]) == 1


def kinds(name):
    return [layer.kind for layer in profile(NETWORKS[name], SMALL).layers]


def test_local_response_norm_is_alexnets_formula():
    maps = torch.randn(2, 7, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = torch.empty_like(maps)
    for channel in range(7):
        window = maps[:, max(0, channel - 2) : channel + 3]
        expected[:, channel] = maps[:, channel] / (2 + 1e-4 * window.square().sum(1)) ** 0.75
    torch.testing.assert_close(local_response_norm()(maps), expected, rtol=1e-12, atol=1e-12)


def test_a_profile_leaves_the_module_as_it_was():
    module = build(VGG_A, SMALL)
    before = module.training
    profile_module(module, (3, 32, 32))
    assert module.training is before
    assert not any(layer._forward_hooks for layer in module.modules())


def test_layers_that_two_networks_share_start_equal():
    shallow, deep = (build(network, SMALL) for network in (VGG_A, VGG_E))
    for module in (shallow, deep):
        initialise(module, "he", seed=3)
    deeper = dict(weight_layers(deep))
    shared = [
        place
        for place, layer in weight_layers(shallow)
        if place in deeper and deeper[place].weight.shape == layer.weight.shape
    ]
    assert "stage5.conv2" in shared
    assert "head.fc3" in shared
    for place, layer in weight_layers(shallow):
        if place in shared:
            assert torch.equal(layer.weight, deeper[place].weight)


def test_another_seed_or_place_draws_other_weights():
    module, other = build(VGG_C, SMALL), build(VGG_C, SMALL)
    initialise(module, "he", seed=0)
    initialise(other, "he", seed=1)
    layers = dict(weight_layers(module))
    assert not torch.equal(layers["stage1.conv1"].weight, dict(weight_layers(other))["stage1.conv1"].weight)
    assert not torch.equal(layers["stage5.conv1"].weight, layers["stage5.conv2"].weight)


@pytest.mark.parametrize("initialiser", DEVIATIONS)
def test_an_initialiser_has_the_deviation_that_it_promises(initialiser):
    module = build(VGG_A, Scale(resolution=32, classes=10, width=0.5))
    initialise(module, initialiser, seed=0)
    layer = dict(weight_layers(module))["stage4.conv2"]
    fan = 256 * 9
    promised = {"he": (2 / fan) ** 0.5, "glorot": (2 / (2 * fan)) ** 0.5}[initialiser]
    assert float(layer.weight.detach().std()) == pytest.approx(promised, rel=0.01)
    assert float(layer.bias.detach().abs().max()) == 0


def test_an_unknown_network_suggests_the_nearest():
    with pytest.raises(InvalidValue, match=r"No network named 'vgg-dd'\. Did you mean 'vgg-d'"):
        network("vgg-dd")
