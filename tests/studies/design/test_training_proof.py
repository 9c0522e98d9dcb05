"""What is proved of a user's network before it is trained: a real step, and what it gives in evaluation."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from lightning_modules.modules.trainable import make_trainable
from lightning_modules.networks.memory_layout import find_layout, random_images
from lightning_modules.specs.errors import UserError
from lightning_modules.specs.networks import Custom
from lightning_modules.specs.recipe import Recipe
from lightning_modules.specs.scale import Scale
from lightning_modules.specs.setup import Setup
from studies.design import estimate
from studies.design.instantiation import instantiate_network
from studies.design.preview import _estimate_or_explain

ARGUMENTS = {"channels": "$channels", "classes": "$classes"}


class Viewed(nn.Module):
    """A network as in PyTorch's CIFAR tutorial, whose view of a map needs the default layout."""

    def __init__(self, channels, classes):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(channels, 6, 3, padding=1), nn.Conv2d(6, 4, 3, padding=1)
        self.fc = nn.Linear(4 * 8 * 8, classes)

    def forward(self, images):
        maps = self.conv2(self.conv1(images))
        return self.fc(maps.view(maps.size(0), -1))


class ViewedGradient(torch.autograd.Function):
    @staticmethod
    def forward(_, maps):
        return maps.clone()

    @staticmethod
    def backward(_, gradient):
        return gradient.view(-1).view(gradient.shape)


class ViewedBackward(Viewed):
    """A network that needs the default layout in its backward pass alone."""

    def forward(self, images):
        return self.fc(self.conv2(ViewedGradient.apply(self.conv1(images))).flatten(1))


def small(channels, classes):
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Linear(32, classes),
    )  # fmt: skip


def lazy(channels, classes):
    del channels
    return nn.Sequential(nn.LazyConv2d(8, 3), nn.LazyBatchNorm2d(), nn.ReLU(), nn.Flatten(), nn.LazyLinear(classes))


def scripted(channels, classes):
    return torch.jit.script(small(channels, classes))


def softmax(channels, classes):
    return nn.Sequential(small(channels, classes), nn.Softmax(1))


def sigmoid(channels, classes):
    return nn.Sequential(small(channels, classes), nn.Sigmoid())


class Dropping(nn.Module):
    def __init__(self, channels, classes):
        super().__init__()
        self.inner = small(channels, classes)

    def forward(self, images):
        return self.inner(functional.dropout(images, 0.5))


def without_statistics(channels, classes):
    network = small(channels, classes)
    network[1] = nn.BatchNorm2d(8, track_running_stats=False)
    return network


def for_color(classes):
    return small(3, classes)


class BackwardFails(nn.Module):
    def __init__(self, channels, classes):
        super().__init__()
        self.inner = small(channels, classes)

    def forward(self, images):
        logits = self.inner(images)
        if self.training and logits.requires_grad:
            logits.register_hook(_fail)
        return logits


def _fail(_):
    raise RuntimeError("no gradient today")


def setup(factory, channels=1, arguments=ARGUMENTS):
    return Setup(
        network=Custom(class_path=f"{__name__}.{factory.__name__}", init_args=arguments),
        scale=Scale(resolution=8, channels=channels, classes=10),
        recipe=Recipe(batch_size=4),
    )


@pytest.mark.parametrize(("network", "channels"), [(Viewed, 1), (Viewed, 3), (ViewedBackward, 3)])
def test_a_network_that_views_a_map_is_run_in_the_default_layout_and_this_is_said(network, channels):
    viewed = setup(network, channels)
    (note,) = instantiate_network(viewed).notes
    assert "channels-last" in note
    images = random_images(4, viewed.scale.image_shape)
    logits = make_trainable(viewed, seed=0).module(images)
    logits.sum().backward()
    assert logits.shape == (4, 10)


def test_other_networks_stay_in_channels_last_memory_and_find_layout_leaves_them_as_they_are():
    network, state = small(1, 10), torch.get_rng_state()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert find_layout(network, (1, 8, 8)) == "channels-last"
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert instantiate_network(setup(small)).notes == ()


@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_lazy_layers_are_made_concrete_with_the_seeds_weights():
    first, again, other = (make_trainable(setup(lazy), seed).network[0].weight for seed in (0, 0, 1))
    assert first.shape == (8, 1, 3, 3)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert instantiate_network(setup(lazy)).properties["weight_layers"] == 2


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_a_module_of_torch_jit_is_refused_in_one_line():
    with pytest.raises(UserError, match=r"Leave out torch\.jit\.script") as error:
        instantiate_network(setup(scripted))
    assert "\n" not in str(error.value)


def seeded(channels, classes):
    torch.manual_seed(42)
    return small(channels, classes)


@pytest.mark.parametrize(
    ("factory", "said"),
    [
        (seeded, "seeds PyTorch's generator when it is built: the weights that it draws then are the same under every"),
        (softmax, "look like probabilities"),
        (sigmoid, "look like probabilities"),
        (Dropping, "evaluations differ"),
        (without_statistics, "evaluations differ"),
    ],
)
def test_what_is_unusual_in_its_outputs_is_said(factory, said):
    (note,) = instantiate_network(setup(factory)).notes
    assert said in note


def test_a_step_that_fails_is_told_before_training():
    with pytest.raises(UserError, match=r"fails in a training step on 2 images of 1 x 8 x 8: no gradient today"):
        instantiate_network(setup(BackwardFails))


def test_images_of_another_number_of_channels_are_named_as_the_cause():
    with pytest.raises(UserError, match="This protocol's images have 1 channel, and the network takes 3"):
        instantiate_network(setup(for_color, arguments={"classes": "$classes"}))


def test_an_error_in_the_timed_step_is_told_with_the_preview(monkeypatch):
    def fail(*_):
        raise RuntimeError("only with four images")

    monkeypatch.setattr(estimate, "_shortest_duration", fail)
    seconds, failure = _estimate_or_explain(setup(small))
    assert seconds is None
    assert failure == "a training step on 4 images of 1 x 8 x 8 fails: only with four images"
