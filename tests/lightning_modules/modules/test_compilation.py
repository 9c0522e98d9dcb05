"""A compiled network computes what the network computes, under the same names, or says what is missing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch._inductor.exc import InductorError

from lightning_modules.modules.classifier import Classifier
from lightning_modules.modules.compilation import compile_network
from lightning_modules.networks.build import build_network
from lightning_modules.specs.catalogue import RESNET_20
from lightning_modules.specs.errors import UserError
from lightning_modules.specs.recipe import Recipe
from lightning_modules.specs.scale import Scale
from lightning_modules.specs.serialization import to_json
from studies.execution.processes.bundle_size import can_join_bundle
from studies.protocols import load

SMALL = Scale(resolution=16, channels=1, classes=4, width=0.0625)


@pytest.mark.slow
def test_outputs_and_gradients_are_those_of_the_network():
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 3)]
    network = nn.Sequential(*layers)  # compiling a whole ResNet-20 takes a minute
    images = torch.randn(6, 1, 8, 8)
    found = []
    for compute_outputs in (network.__call__, compile_network(network)):
        network.zero_grad()
        logits = compute_outputs(images)
        logits.square().sum().backward()
        found.append([logits.detach(), *(parameter.grad.clone() for parameter in network.parameters())])
    for plain, compiled in zip(*found, strict=True):
        assert torch.allclose(plain, compiled, rtol=1e-3, atol=1e-5)


def test_parameters_keep_their_names():
    network = build_network(RESNET_20, SMALL)
    names = list(network.state_dict())
    module = Classifier(network, Recipe(compiled=True))
    assert [name.removeprefix("network.") for name in module.state_dict()] == names


def test_a_machine_that_cannot_compile_is_told_so_in_one_line(monkeypatch):
    def fail(images: torch.Tensor) -> torch.Tensor:
        raise InductorError(RuntimeError("no C++ compiler was found\nand a long trace"), None)

    monkeypatch.setattr(torch, "compile", lambda *_, **__: fail)
    with pytest.raises(UserError, match=r"recipe\.compiled is true, and the network could not be compiled") as raised:
        compile_network(build_network(RESNET_20, SMALL))(torch.zeros(1, 1, 16, 16))
    assert "no C++ compiler" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_recipe_without_compilation_keeps_its_fingerprint_and_a_compiled_network_trains_alone():
    setup = load("digits").setup
    assert "compiled" not in to_json(setup.recipe)
    compiled = replace(setup, recipe=replace(setup.recipe, compiled=True))
    assert can_join_bundle(setup)
    assert not can_join_bundle(compiled)
