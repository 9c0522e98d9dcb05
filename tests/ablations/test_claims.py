"""Caveats follow the conditions of a study."""

from __future__ import annotations

from dataclasses import replace

import pytest

import ablations
from ablations import AllOf, Caveat, DoesNotHelp, FallsWith, Helps, SaturatesAt
from ablations._dense_positions import dense_positions
from lightning_modules.catalogue import VGG_A
from lightning_modules.spec import Setup

SMALL = Caveat("only {resolution} pixels", lambda resolution: resolution < 64)


def caveats_of(name, resolution):
    setup = Setup(network=VGG_A)
    setup = replace(setup, scale=replace(setup.scale, resolution=resolution))
    return [claim.caveat for claim in ablations.load(name).claims_for(setup)]


@pytest.mark.parametrize("name", ["evaluation", "evaluation_scales"])
def test_tests_of_one_position_are_told_at_32_pixels_and_not_at_224(name):
    assert all("at 32 pixels five poolings" in caveat for caveat in caveats_of(name, 32))
    assert not any(caveats_of(name, 224))


def test_dense_positions_are_those_of_the_convolved_head():
    assert dense_positions(224, 8 / 7) == 2
    assert dense_positions(32, 8 / 7) == 1


def test_every_claim_of_every_ablation_registers_a_text():
    for name in ablations.names():
        assert all(isinstance(caveat, str) for resolution in (32, 224) for caveat in caveats_of(name, resolution)), name


def test_parts_of_a_conjunction_have_their_own_caveats():
    both = AllOf(parts=(Helps(arm="B", over="A", caveat=SMALL), Helps(arm="C", over="A")), caveat=SMALL)
    assert [part.caveat for part in (both.at_resolution(32), *both.at_resolution(32).parts)] == [
        "only 32 pixels",
        "only 32 pixels",
        "",
    ]
    assert both.at_resolution(224).caveat == both.at_resolution(224).parts[0].caveat == ""


def test_sentences_name_few_arms_one_by_one_and_count_many():
    arms = tuple(f"w{index}" for index in range(40))
    assert FallsWith(order=arms[:3]).sentence == "Test error falls from w0 to w1 to w2."
    assert FallsWith(order=arms).sentence == "Test error falls with each of the 39 steps from w0 to w39."
    assert SaturatesAt(arm="w7", order=arms).sentence == (
        "Test error falls up to w7 and is level beyond it, along the 40 arms from w0 to w39."
    )
    many = AllOf(parts=tuple(Helps(arm=arm, over="w0") for arm in arms[1:]))
    assert many.sentence.startswith("All 39 hold, from: w1 improves on w0 in test error. To: w39")


def test_a_lower_gradient_norm_is_no_improvement():
    """It measures a mechanism; of the claim that gradients do not vanish the sentence says just that."""
    vanish = Helps(arm="deep", over="shallow", endpoint="gradient_norm")
    stay = DoesNotHelp(arm="deep", over="shallow", endpoint="gradient_norm")
    assert vanish.sentence == "deep has a lower gradient norm of the first layer than shallow."
    assert stay.sentence == "deep does not have a lower gradient norm of the first layer than shallow."
    (both, alone) = ablations.load("vanishing_gradients").claims
    assert alone.sentence in both.sentence
    assert both.endpoints == ("training_error", "gradient_norm")
