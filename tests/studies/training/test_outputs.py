"""What a network of one's own gives, proved when it is built: logits first, auxiliary ones where they count."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from ablations import Ablation, Arm
from lightning_modules.modules.trainable import make_trainable
from lightning_modules.specs.errors import InvalidValue, UserError
from lightning_modules.specs.networks import Custom
from lightning_modules.specs.recipe import Recipe
from lightning_modules.specs.scale import Scale
from lightning_modules.specs.setup import Setup
from studies import protocols
from studies.console.preview import print_preview
from studies.design.declare import declare
from studies.design.estimate import estimate_trial_seconds
from studies.design.instantiation import instantiate_network
from studies.design.preview import preview_study
from studies.design.study import Study

SCALE = Scale(resolution=8, channels=1, classes=10)
ARGUMENTS = {"channels": "$channels", "classes": "$classes"}


class Small(nn.Module):
    """Gives its logits, and what `more` says beside them."""

    def __init__(self, channels, classes, more="", width=4, norm=False):
        super().__init__()
        self.more = more
        self.conv = nn.Conv2d(channels, width, 3)
        self.norm = nn.BatchNorm1d(width) if norm else nn.Identity()
        self.head = nn.Linear(width, classes)

    def forward(self, images):
        maps = self.conv(images)
        logits = self.head(self.norm(maps.mean((2, 3))))
        if self.more == "dict":
            return {"logits": logits}
        if self.more == "features":
            return logits, maps
        if self.more == "text":
            return logits, "more"
        if self.more == "dict in training" and self.training:
            return {"logits": logits}
        if self.more == "auxiliary" and self.training:
            return [logits, 2 * logits]
        if self.more == "maps first in training" and self.training:
            return maps, logits
        if self.more == "content":
            return logits * float(images.sum() + 1)
        return logits


def setup(weight=0.0, **arguments):
    network = Custom(
        class_path="tests.studies.training.test_outputs.Small",
        init_args={**ARGUMENTS, **arguments},
        auxiliary_weight=weight,
    )
    return Setup(network=network, scale=SCALE, recipe=Recipe(epochs=1, batch_size=4))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (setup(more="dict"), "Small: the network returns a dict; expected a tensor of logits, or a tuple or list of t"),
        (setup(more="text"), r"Small: the network returns a tuple of \(Tensor, str\); expected a tensor"),
        (setup(more="dict in training"), "Small: the network returns a dict; expected a tensor of logits"),
        (
            setup(more="maps first in training"),
            r"Small, in training on 2 images: output 1 has the shape \(2, 4, 6, 6\); expected logits .* \(2, 10\)",
        ),
        (
            setup(0.3),
            r"Small has no auxiliary outputs: in training it gives its logits alone, and auxiliary_w",
        ),
        (
            setup(0.3, more="features"),
            r"output 2 has the shape \(2, 4, 6, 6\); expected logits .* With an auxiliary_weight of 0, further outp",
        ),
    ],
)
def test_what_cannot_be_trained_on_is_refused_when_it_is_built(given, said):
    with pytest.raises(UserError, match=said):
        instantiate_network(given)


@pytest.mark.parametrize(
    "given",
    [setup(), setup(more="features"), setup(more="auxiliary"), setup(0.3, more="auxiliary"), setup(more="content")],
)
def test_logits_that_come_first_are_enough_and_auxiliary_ones_may_count(given):
    assert instantiate_network(given).properties["weight_layers"] == 2


def test_further_outputs_are_ignored_where_they_do_not_count():
    images, labels = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(4)
    plain, with_features = (make_trainable(setup(more=more), 0).module for more in ("", "features"))
    losses = [model.compute_loss(images, labels, len(labels)).detach() for model in (plain, with_features)]
    assert torch.equal(*losses)


def test_auxiliary_outputs_count_by_their_weight():
    images, labels = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(4)
    model = make_trainable(setup(0.5, more="auxiliary"), 0).module
    logits, further = model.network(images)
    expected = functional.cross_entropy(logits, labels) + 0.5 * functional.cross_entropy(further, labels)
    assert torch.equal(model.compute_loss(images, labels, len(labels)), expected)


def test_where_the_timed_step_fails_its_error_is_told():
    one = replace(setup(norm=True), recipe=Recipe(batch_size=1))
    with pytest.raises(ValueError, match="Expected more than 1 value"):
        make_trainable(one, 0).module.accumulate_gradients(torch.zeros(1, 1, 8, 8), torch.zeros(1, dtype=torch.long))
    with pytest.raises(UserError, match=r"a training step on 1 images of 1 x 8 x 8 fails: Expected more than 1 value"):
        estimate_trial_seconds(replace(one, data=protocols.load("digits").setup.data))


def test_an_argument_of_a_users_network_is_read_by_its_own_type(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "users_widths.py"
    file.write_text(
        "from ablations import Ablation, Arm\n"
        "from tests.studies.training.test_outputs import setup\n"
        "ABLATION = Ablation(question='Why?', baseline=Arm('plain', {'network': setup(width=4, norm=False).network}),\n"
        "    arms=(Arm('norm', {'network': setup(width=4, norm=True).network}),), varies=('network.init_args.norm',))\n"
    )
    study = declare(str(file), overrides={"network.init_args.width": "6"})
    assert [each.network.init_args["width"] for each in study.setups().values()] == [6, 6]
    with pytest.raises(InvalidValue, match=r"there is no argument 'wdith'\. Did you mean 'width'"):
        declare(str(file), overrides={"network.init_args.wdith": "6"})


def test_show_names_what_was_forced_and_what_is_not_known(capsys):
    plain = setup(norm=False).network
    ablation = Ablation(
        question="Why?",
        baseline=Arm("plain", {"network": plain}),
        arms=(
            Arm("both", {"network": setup(norm=True).network, "recipe.learning_rate": 0.1}),
            Arm("control", {"network": plain, "recipe.learning_rate": 0.1}),
        ),
        varies=("network.init_args.norm",),
        forced={"recipe.learning_rate": "so it must be"},
    )
    study = Study(name="mine", ablation=ablation, protocol=protocols.load("digits"), seeds=(0,), overrides={})
    shown = preview_study(study)
    assert shown.arms["both"].contrast.forced == ("recipe.learning_rate",)
    assert not shown.arms["both"].contrast.is_unconfounded
    assert shown.arms["control"].contrast.is_unconfounded
    arms = {}
    for name, arm in shown.arms.items():
        known = {key: value for key, value in arm.properties.items() if key != "receptive_field"}
        contrast = replace(arm.contrast, unmeasured=("receptive_field",))
        arms[name] = replace(arm, properties=known, contrast=contrast)
    print_preview(replace(shown, arms=arms))
    printed = " ".join(capsys.readouterr().out.split())
    assert "recipe.learning_rate, forced with it; receptive field not known" in printed
    assert "control unconfounded, as far as known receptive field not known" in printed
