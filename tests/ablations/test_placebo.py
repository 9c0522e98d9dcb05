"""A placebo among an ablation's arms: the baseline again, with another draw of one stream."""

import pytest

from ablations import Ablation, Arm, Helps, InvalidAblation, Placebo
from lightning_modules.specs.catalogue import VGG_A, VGG_A_LRN
from lightning_modules.specs.errors import InvalidValue
from lightning_modules.specs.setup import Setup
from lightning_modules.specs.values import flatten_fields
from studies.design.declare import declare
from studies.design.trial import Trial
from studies.design.verification import build_verified_networks
from studies.protocols import load

A = Arm("A", {"network": VGG_A})
LRN = Arm("LRN", {"network": VGG_A_LRN})
BASE = Setup(network=VGG_A)


def make(*placebos, **fields):
    return Ablation(question="Why?", baseline=A, arms=(LRN, *placebos), varies=("network.norm",), **fields)


def test_a_placebo_is_the_baseline_but_for_its_redrawn_stream():
    setups = make(Placebo(name="control", redraws="order")).setups(BASE)
    before, after = flatten_fields(setups["A"]), flatten_fields(setups["control"])
    assert after == before | {"redraws": "order", "redraw_name": "control"}


def test_other_arms_keep_their_fingerprints_and_every_placebo_has_its_own():
    ablation = make(Placebo(), Placebo(name="second"), Placebo(name="third", redraws="order"))
    setups = ablation.setups(BASE)
    fingerprints = {name: Trial(arm=name, setup=setup, seed=0).fingerprint for name, setup in setups.items()}
    plain = make().setups(BASE)
    assert {name: fingerprints[name] for name in plain} == {
        name: Trial(arm=name, setup=setup, seed=0).fingerprint for name, setup in plain.items()
    }
    assert len(set(fingerprints.values())) == 5
    assert ablation.placebos == ("placebo", "second", "third")


def test_nothing_is_claimed_about_a_placebo():
    with pytest.raises(InvalidAblation, match="a claim names 'placebo', a placebo; expected another arm"):
        make(Placebo(), claims=(Helps(arm="placebo", over="A"),))


def test_another_stream_is_refused():
    with pytest.raises(InvalidValue, match="redraws is 'dropout'; expected one of 'weights', 'order', 'augmentation'"):
        Placebo(redraws="dropout")


def test_an_override_reaches_the_placebo_as_it_does_the_baseline():
    setups = make(Placebo()).setups(BASE, {"recipe.epochs": 3})
    assert {setup.recipe.epochs for setup in setups.values()} == {3}


@pytest.mark.parametrize("path", ["redraws", "redraw_name"])
def test_a_draw_cannot_be_set_for_all_arms(path):
    with pytest.raises(InvalidValue, match=f"{path} is what a placebo sets; it cannot be set for all arms"):
        declare("lrn", overrides={path: "weights"})


def test_a_draw_is_named_only_where_something_is_redrawn():
    with pytest.raises(InvalidAblation, match="arm 'x' has the redraw_name 'x', and nothing is redrawn"):
        Ablation(
            question="Does a name matter?",
            baseline=Arm("x", {"network": VGG_A, "redraw_name": "x"}),
            arms=(Arm("y", {"network": VGG_A, "redraw_name": "y"}),),
            varies=("redraw_name",),
        )
    assert Arm("z", {"redraw_name": "z", "redraws": "order"}).apply(BASE).redraws == "order"  # in any order


def test_a_redrawn_stream_that_decides_nothing_is_refused():
    protocol = load("digits").setup
    setups = make(Placebo(redraws="augmentation")).setups(protocol)
    assert set(build_verified_networks(setups)) == {"A", "LRN", "placebo"}
    setups = make(Placebo(redraws="augmentation")).setups(protocol, {"recipe.augmentation": "none"})
    with pytest.raises(InvalidAblation, match="placebo 'placebo' redraws the augmentation, and its trials draw no"):
        build_verified_networks(setups)
