"""Sums of gradient norms over an epoch, against norms computed one by one."""

import copy
import math

import pytest
import torch
from torch import nn

from lightning_modules.modules.gradient_norms import LAYER_GRADIENT_STEPS, GradientNorms
from lightning_modules.networks.build import weight_layers

CPU = torch.device("cpu")


def make_network():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5))
    return network.to(memory_format=torch.channels_last)


def compute_gradients(network, step, scale=1.0):
    torch.manual_seed(step)
    network.zero_grad()
    (scale * network(torch.randn(6, 3, 8, 8)).square().mean()).backward()


def oracle(network):
    """Norms of all gradients together, and of each layer's weights, in double precision."""
    gradients = [parameter.grad.double() for parameter in network.parameters() if parameter.grad is not None]
    total = math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients))
    layers = {
        layer_path: math.sqrt(float(layer.weight.grad.double().square().sum()))
        for layer_path, layer in weight_layers(network)
        if layer.weight.grad is not None
    }
    return total, layers


@pytest.mark.parametrize("num_steps", [1, LAYER_GRADIENT_STEPS, LAYER_GRADIENT_STEPS + 3])
def test_means_are_those_of_norms_computed_one_by_one(num_steps):
    network = make_network()
    norms = GradientNorms(network, CPU)
    for epoch in range(2):  # the second must not see what the first one left
        norms.reset()
        totals, layers = [], []
        for step in range(num_steps):
            compute_gradients(network, 100 * epoch + step)
            total, layer_norms = oracle(network)
            assert float(norms.add_step()) == pytest.approx(total, rel=1e-5)
            totals.append(total)
            layers.append(layer_norms)
        means = norms.mean_norms(num_steps)
        assert means.pop("gradient_norm") == pytest.approx(sum(totals) / num_steps, rel=1e-5)
        first = layers[:LAYER_GRADIENT_STEPS]
        expected = {
            f"gradient_norm/{layer_path}": sum(each[layer_path] for each in first) / len(first)
            for layer_path in first[0]
        }
        assert list(means) == ["gradient_norm/0", "gradient_norm/4"]
        assert means == pytest.approx(expected, rel=1e-5)


def test_the_norm_clips_as_pytorchs_own_does_to_the_bit():
    network = make_network()
    compute_gradients(network, 1, scale=100)
    twin = copy.deepcopy(network)
    for parameter, other in zip(network.parameters(), twin.parameters(), strict=True):
        other.grad = parameter.grad.clone()
    expected = nn.utils.clip_grad_norm_(twin.parameters(), 1.0)
    norm = GradientNorms(network, CPU).add_step()
    nn.utils.clip_grads_with_norm_(network.parameters(), 1.0, norm)
    assert torch.equal(norm, expected)
    pairs = zip(network.parameters(), twin.parameters(), strict=True)
    assert all(torch.equal(parameter.grad, other.grad) for parameter, other in pairs)


def test_a_step_that_overflows_after_the_first_ones_leaves_the_layers_their_means():
    network = make_network()
    norms = GradientNorms(network, CPU)
    for step in range(LAYER_GRADIENT_STEPS):
        compute_gradients(network, step)
        norms.add_step()
    before = norms.mean_norms(LAYER_GRADIENT_STEPS)
    for parameter in network.parameters():
        parameter.grad.fill_(math.inf)
    norms.add_step()
    after = norms.mean_norms(LAYER_GRADIENT_STEPS + 1)
    assert after.pop("gradient_norm") == math.inf
    assert before.pop("gradient_norm") < math.inf
    assert after == before


def test_layers_without_gradients_have_no_curve_and_may_change_from_step_to_step():
    network = make_network()
    norms = GradientNorms(network, CPU)
    assert float(norms.add_step()) == 0.0
    assert norms.mean_norms(1) == {"gradient_norm": 0.0}
    norms.reset()
    compute_gradients(network, 0)
    network[0].weight.grad = None
    norms.add_step()
    assert list(norms.mean_norms(1)) == ["gradient_norm", "gradient_norm/4"]
    compute_gradients(network, 1)
    first_norm = float(network[0].weight.grad.norm())
    norms.add_step()
    means = norms.mean_norms(2)
    assert means["gradient_norm/0"] == pytest.approx(first_norm / 2)  # its step without a gradient counts as zero
    assert means["gradient_norm/4"] > 0


def test_a_total_that_is_given_is_the_one_that_is_summed():
    network = make_network()
    norms = GradientNorms(network, CPU)
    compute_gradients(network, 0)
    norms.add_step(total=torch.tensor(7.0))
    norms.add_step(total=torch.tensor(9.0))
    assert norms.mean_norms(2)["gradient_norm"] == 8.0


def test_a_step_changes_nothing_but_its_state_and_always_in_the_same_memory():
    """As a captured step needs it."""
    network = make_network()
    norms = GradientNorms(network, CPU)
    compute_gradients(network, 0)
    norms.add_step()
    tensors = [*norms.state_tensors, *norms.layer_sums.values()]
    norms.reset()
    assert all(float(tensor.abs().sum()) == 0 for tensor in tensors)
    norms.add_step()
    pairs = zip(tensors, [*norms.state_tensors, *norms.layer_sums.values()], strict=True)
    assert all(old is new for old, new in pairs)


@pytest.mark.parametrize("make", [nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm])
def test_a_weight_that_is_computed_from_others_is_not_read(make):
    """Spectral normalization changes its buffers whenever its weight is read."""
    network = nn.Sequential(make(nn.Linear(4, 3)), nn.Linear(3, 2))
    before = copy.deepcopy(network.state_dict())
    norms = GradientNorms(network, CPU)
    assert all(torch.equal(values, before[name]) for name, values in network.state_dict().items())
    network(torch.ones(1, 4)).sum().backward()
    norms.add_step()
    assert list(norms.mean_norms(1)) == ["gradient_norm", "gradient_norm/1"]


def test_parameters_that_were_replaced_are_listed_anew():
    network = make_network()
    norms = GradientNorms(network, CPU)
    network[4] = nn.Linear(4 * 36, 2)
    compute_gradients(network, 0)
    norms.add_step()
    assert "gradient_norm/4" not in norms.mean_norms(1)
    norms.reset()
    norms.list_parameters(network)
    norms.add_step()
    assert norms.mean_norms(1)["gradient_norm/4"] == pytest.approx(oracle(network)[1]["4"], rel=1e-5)
