"""Steps that depend on nothing of the host are the same steps, and a captured one is checked against them."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from lightning_modules.data.datamodule import EpochLoader, InMemoryDataModule
from lightning_modules.modules.captured_steps import CaptureError, StepState, require_same_change
from lightning_modules.modules.lr_schedule import learning_rate_factor
from lightning_modules.modules.step_rates import DeviceRates, HostRates, allocate_momentum, make_sgd
from lightning_modules.networks.layers import Dropout
from lightning_modules.specs.catalogue import RESNET_20
from lightning_modules.specs.recipe import Recipe

CPU = torch.device("cpu")


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("probability", [0.0, 0.25, 0.5])
def test_dropout_draws_what_pytorchs_does_from_a_generator_of_its_own(probability, channels_last):
    values = torch.randn(7, 5, 4, 3)
    values = values.to(memory_format=torch.channels_last) if channels_last else values
    own, pytorch = Dropout(probability), nn.Dropout(probability)
    torch.manual_seed(11)
    expected = [pytorch(values) for _ in range(3)]
    own.generator = torch.Generator().manual_seed(11)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    assert all(torch.equal(own(values), each) for each in expected)
    assert torch.equal(torch.get_rng_state(), before)  # what another network draws does not matter
    assert torch.equal(own.eval()(values), values)


def test_dropout_without_a_generator_draws_from_the_process():
    values = torch.randn(9, 9)
    torch.manual_seed(1)
    expected = nn.functional.dropout(values, 0.5)
    torch.manual_seed(1)
    assert torch.equal(Dropout(0.5)(values), expected)


def rates_of(recipe, steps):
    return [recipe.learning_rate * learning_rate_factor(recipe, step, steps) for step in range(steps)]


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_rates_of_a_table_on_the_device_make_the_steps_of_the_hosts(momentum):
    recipe = Recipe(learning_rate=0.3, warmup=0.3, momentum=momentum)
    weights = []
    for make_rates in (HostRates, lambda optimizer: DeviceRates(optimizer, 10, CPU)):
        torch.manual_seed(0)
        layer = nn.Linear(3, 2)
        optimizer = make_sgd(layer.parameters(), recipe)
        allocate_momentum(optimizer)
        rates = make_rates(optimizer)
        for epoch in range(2):
            rates.load_epoch(rates_of(recipe, 20)[10 * epoch : 10 * epoch + 10])
            for _ in range(10):
                optimizer.zero_grad()
                layer(torch.ones(4, 3)).square().sum().backward()
                rates.set_next()
                optimizer.step()
        weights.append(layer.weight.detach())
    assert torch.equal(*weights)


def test_momentum_that_begins_with_zeros_changes_no_bit():
    weights = []
    for allocate in (False, True):
        torch.manual_seed(0)
        layer = nn.Linear(3, 2)
        optimizer = make_sgd(layer.parameters(), Recipe())
        if allocate:
            assert len(allocate_momentum(optimizer)) == 2
        for _ in range(3):
            optimizer.zero_grad()
            layer(torch.ones(4, 3)).square().sum().backward()
            optimizer.step()
        weights.append(layer.weight.detach())
    assert torch.equal(*weights)


def test_only_weights_are_decayed():
    decays = [group["weight_decay"] for group in make_sgd(nn.Linear(2, 2).parameters(), Recipe()).param_groups]
    assert decays == [5e-4, 0.0]


def test_a_states_copy_brings_back_tensors_and_draws_in_place():
    tensor, generator = torch.zeros(3), torch.Generator().manual_seed(4)
    state = StepState({"values": tensor}, [generator])
    before = state.copy()
    tensor += torch.rand(3, generator=generator)
    changed = tensor.clone()
    state.restore(before)
    assert torch.equal(tensor, torch.zeros(3))
    tensor += torch.rand(3, generator=generator)
    assert torch.equal(tensor, changed)


@pytest.mark.parametrize(
    ("replayed", "message"),
    [
        ({"a": torch.ones(2), "b": torch.tensor([1.0, 1.1])}, r"^b differs by 0\.1 of 1\.41"),
        ({"a": torch.ones(2), "b": torch.tensor([1.0, float("nan")])}, "^b differs"),
        ({"a": torch.ones(2)}, "do not both have: b"),
    ],
)
def test_a_replay_that_does_something_else_is_told(replayed, message):
    with pytest.raises(CaptureError, match=message):
        require_same_change({"a": torch.ones(2), "b": torch.ones(2)}, replayed)


def is_same_change(expected, replayed):
    try:
        require_same_change({"values": torch.tensor(expected)}, {"values": torch.tensor(replayed)})
    except CaptureError:
        return False
    return True


@pytest.mark.parametrize(
    ("expected", "replayed", "is_same"),
    [
        ([1.0, 1.0], [1.0, 1.001], True),  # by rounding
        ([1.0, 1.0], [1.0, 1.1], False),
        ([0.0, 0.0], [0.0, 0.0], True),
        ([0.0, 0.0], [0.0, 1e-9], False),
        ([1.0, float("nan")], [1.0, float("nan")], True),  # both overflow
        ([1.0, float("nan")], [1.0, 1.0], False),
        (2**24, 2**24 + 1, False),  # a counter
        ([500, 501], [500, 502], True),  # integers that the data decide
    ],
)
def test_a_replay_may_differ_by_rounding_and_both_may_overflow(expected, replayed, is_same):
    assert is_same_change(expected, replayed) == is_same


@pytest.mark.parametrize("network", ["vgg", "resnet"])
def test_whole_epochs_read_no_value_of_the_device_on_the_host(digits, small, network, monkeypatch):
    """As a GPU is kept busy: what waits for it would call ``item`` or one of its kin."""
    from lightning_modules.modules.trainable import make_trainable

    setup = small if network == "vgg" else replace(small, network=RESNET_20)
    data = InMemoryDataModule(digits, setup.data, setup.recipe, 0, CPU)
    module = make_trainable(setup, 0).module
    epoch = EpochLoader(data.train, setup.recipe, 0, 0)
    epoch.load_draws()
    module.optimizer = make_sgd(module.all_parameters, setup.recipe)
    module.rates = DeviceRates(module.optimizer, len(epoch), CPU)
    module.rates.load_epoch([0.01] * len(epoch))
    batch = epoch.cut_batch(64)
    monkeypatch.setattr(module, "optimizer", type("Step", (), {"step": lambda _: None})())  # a CPU's reads its rate

    reads = []

    def noting(name):
        read = getattr(torch.Tensor, name)

        def read_and_note(tensor, *given, **named):
            reads.append(name)
            return read(tensor, *given, **named)

        return read_and_note

    for name in ("item", "__bool__", "__float__", "__int__", "tolist", "numpy", "cpu", "nonzero"):
        monkeypatch.setattr(torch.Tensor, name, noting(name))
    module._take_step(*batch)
    module._take_step(*epoch.cut_batch(64))
    assert reads == []
    assert float(next(module.parameters()).grad.abs().sum()) > 0  # the steps were taken, and this reads
    assert reads
