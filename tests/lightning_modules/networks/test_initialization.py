"""Initial weights: by place, with the deviation that an initializer promises, or copied from a donor."""

from dataclasses import replace
from typing import get_args

import pytest
import torch

from lightning_modules.networks.build import build_network, weight_layers
from lightning_modules.networks.initialization import (
    INITIALIZERS,
    build_initialized_network,
    copy_layers,
    initialize_weights,
)
from lightning_modules.specs.catalogue import NETWORKS, RESNET_20, VGG_A, VGG_C, VGG_D, VGG_E
from lightning_modules.specs.errors import UserError
from lightning_modules.specs.networks import Custom, Initializer, Norm
from lightning_modules.specs.scale import Scale

SMALL = Scale(resolution=32, channels=3, classes=10, width=0.125)
HALF = replace(SMALL, width=0.5)
COPIED = ("stage1.conv1", "stage2.conv1", "stage3.conv1", "stage3.conv2", "head")


def layers(network, scale=SMALL, initializer="he", seed=0):
    module = build_network(network, scale)
    initialize_weights(module, initializer, seed)
    return dict(weight_layers(module))


@pytest.mark.parametrize("deeper", [VGG_E, replace(VGG_E, norm="batch"), replace(VGG_E, activation="tanh")])
def test_layers_that_two_networks_share_start_equal(deeper):
    shallow, deep = layers(VGG_A, seed=3), layers(deeper, seed=3)
    shared = [place for place in shallow if place in deep and deep[place].weight.shape == shallow[place].weight.shape]
    assert {"stage5.conv2", "head.fc3"} <= set(shared)
    assert all(torch.equal(shallow[place].weight, deep[place].weight) for place in shared)


def test_blocks_that_a_plain_and_a_residual_network_share_start_equal():
    plain, residual = layers(replace(RESNET_20, shortcut="none")), layers(replace(RESNET_20, shortcut="projection-all"))
    assert set(plain) < set(residual)
    assert all(torch.equal(plain[place].weight, residual[place].weight) for place in plain)


def test_another_seed_or_place_draws_other_weights():
    first, second = layers(VGG_C, seed=0), layers(VGG_C, seed=1)
    assert not torch.equal(first["stage1.conv1"].weight, second["stage1.conv1"].weight)
    assert not torch.equal(first["stage5.conv1"].weight, first["stage5.conv2"].weight)


PROMISED = {
    "he": (2 / (256 * 9)) ** 0.5,
    "glorot": (2 / (2 * 256 * 9)) ** 0.5,
    "orthogonal": (2 / (256 * 9)) ** 0.5,  # 256 orthonormal rows of 2,304, times root 2
    "gaussian-variance-0.01": 0.1,
    "gaussian-deviation-0.01": 0.01,
}


def test_every_initializer_is_promised_something():
    assert set(PROMISED) == set(INITIALIZERS) == set(get_args(Initializer))


@pytest.mark.parametrize("initializer", PROMISED)
def test_an_initializer_has_the_deviation_that_it_promises(initializer):
    layer = layers(VGG_A, HALF, initializer)["stage4.conv2"]
    assert layer.weight.shape == (256, 256, 3, 3)
    assert float(layer.weight.detach().std()) == pytest.approx(PROMISED[initializer], rel=0.01)
    assert abs(float(layer.weight.detach().mean())) < 0.01 * PROMISED[initializer]
    assert float(layer.bias.detach().abs().max()) == 0


@pytest.mark.parametrize("place", ["stage1.conv1", "stage5.conv1", "head.fc3"])
def test_orthogonal_weights_are_orthogonal(place):
    """Rows where there are fewer rows than columns, else columns; their squared length is 2."""
    flat = layers(VGG_A, HALF, "orthogonal")[place].weight.detach().flatten(1).double()
    gram = flat @ flat.T if flat.shape[0] <= flat.shape[1] else flat.T @ flat
    torch.testing.assert_close(gram, 2 * torch.eye(len(gram), dtype=torch.float64), rtol=0, atol=1e-5)


def test_the_papers_gaussian_explodes_at_full_width_and_does_not_when_narrow():
    """Pixels of unit variance. To the letter, the logits of A have a deviation of 10^6 and more at full width."""
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    deviation = {}
    for width in (1.0, 0.125):
        module = build_network(VGG_D, replace(SMALL, width=width)).eval()
        initialize_weights(module, "gaussian-variance-0.01", 0)
        with torch.no_grad():
            deviation[width] = float(module(images).std())
    assert deviation[1.0] > 1e4
    assert deviation[0.125] < 10


def test_a_warm_start_copies_what_it_names_and_nothing_else():
    donor, module = build_network(VGG_A, SMALL), build_network(VGG_D, SMALL)
    initialize_weights(donor, "he", 1)
    initialize_weights(module, "he", 2)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    copied = copy_layers(module, donor.state_dict(), COPIED)
    assert copied == (*COPIED[:-1], "head.fc1", "head.fc2", "head.fc3")
    for name, tensor in module.state_dict().items():
        place = name.rpartition(".")[0]
        expected = donor.state_dict()[name] if place in copied else before[name]
        assert torch.equal(tensor, expected), name


@pytest.mark.parametrize(
    ("places", "text"),
    [
        (("stage1.conv2",), r"copies 'stage1\.conv2', which the source network and the network do not both"),
        (("stage9",), r"copies 'stage9', which"),
        (("stage1", "head"), r"copies 'stage1', which"),
    ],
)
def test_a_warm_start_of_what_is_not_in_both_is_refused(places, text):
    with pytest.raises(UserError, match=text):
        copy_layers(build_network(VGG_D, SMALL), build_network(VGG_A, SMALL).state_dict(), places)


def test_a_warm_start_between_other_shapes_is_refused_and_copies_nothing():
    module, donor = build_network(VGG_D, SMALL), build_network(VGG_A, HALF)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with pytest.raises(UserError, match=r"stage1\.conv1\.weight, which has the shape \(32, 3, 3, 3\) in the source"):
        copy_layers(module, donor.state_dict(), COPIED)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in ("alexnet", "googlenet")])
def test_every_layer_of_every_network_is_drawn(name):
    for place, layer in layers(NETWORKS[name], initializer="gaussian-deviation-0.01").items():
        assert 0.003 < float(layer.weight.detach().std()) < 0.02, place


@pytest.fixture
def poisoned_memory():
    """New tensors hold no numbers until something is written to them."""
    was_deterministic = torch.are_deterministic_algorithms_enabled()
    was_filled = torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(was_deterministic)
    torch.utils.deterministic.fill_uninitialized_memory = was_filled


OWN_NETWORKS = {name: network for name, network in NETWORKS.items() if not isinstance(network, Custom)}
NORMALIZED = {f"vgg-a-{norm}": replace(VGG_A, norm=norm) for norm in get_args(Norm)}


@pytest.mark.parametrize("network", (OWN_NETWORKS | NORMALIZED).values(), ids=(OWN_NETWORKS | NORMALIZED).keys())
def test_every_weight_is_drawn_and_nothing_from_the_processs_generator(network, poisoned_memory):
    expected = build_network(network, SMALL)
    initialize_weights(expected, network.init, 3)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    module = build_initialized_network(network, SMALL, 3)
    assert torch.equal(torch.get_rng_state(), before)
    state, expected_state = module.state_dict(), expected.state_dict()
    assert list(state) == list(expected_state)
    assert [name for name in state if not torch.equal(state[name], expected_state[name])] == []


def test_weights_of_another_memory_layout_are_drawn_the_same():
    module = build_network(VGG_A, SMALL).to(memory_format=torch.channels_last)
    initialize_weights(module, "he", 3)
    expected = layers(VGG_A, seed=3)
    assert all(torch.equal(layer.weight, expected[place].weight) for place, layer in weight_layers(module))
    assert not module.stage2.conv1.weight.is_contiguous()
