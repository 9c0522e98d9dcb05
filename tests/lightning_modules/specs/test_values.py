"""Specs as values: checked, flattened, edited, read back."""

import json
from dataclasses import replace

import pytest

from lightning_modules.specs.catalogue import NETWORKS, VGG_A, VGG_E
from lightning_modules.specs.data import ForeignData
from lightning_modules.specs.errors import InvalidValue, UnknownPath
from lightning_modules.specs.networks import Custom, Stage, Vgg
from lightning_modules.specs.recipe import Recipe
from lightning_modules.specs.scale import Scale, apply_scale
from lightning_modules.specs.serialization import from_json, to_json
from lightning_modules.specs.setup import SPEC_KINDS, Setup, WarmStart
from lightning_modules.specs.values import Arguments, annotation_at, edit_field, flatten_fields, parse_leaf

SETUP = Setup(network=VGG_A)
MAPPING = "expected a mapping from names to numbers, texts or truth values."


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Recipe(epochs=-1), "Recipe.epochs is -1; expected 1 to 100,000."),
        (lambda: Recipe(epochs=2.5), "Recipe.epochs is 2.5; expected a whole number."),
        (lambda: Recipe(epochs=True), "Recipe.epochs is True; expected a whole number."),
        (lambda: Recipe(learning_rate=float("nan")), "Recipe.learning_rate is nan; expected a finite number."),
        (
            lambda: Recipe(augmentation="shft"),
            "Recipe.augmentation is 'shft'; expected one of 'none', 'shift', 'shift-flip', 'crop-flip', "
            "'crop-flip-colour'. Did you mean 'shift'?",
        ),
        (lambda: Stage(width=64, convs=()), "Stage.convs is (); expected at least one convolution."),
        (lambda: Scale(classes=1), "Scale.classes is 1; expected 2 or more."),
        (lambda: Vgg(stages=(3,)), "Vgg.stages is (3,); expected a tuple of a Stage."),
        (
            lambda: Custom(class_path="my.Net", init_args={1: 2, "a": 3}),
            f"Custom.init_args is {{1: 2, 'a': 3}}; {MAPPING}",
        ),
        (lambda: Custom(class_path="my.Net", init_args=None), f"Custom.init_args is None; {MAPPING}"),
        (lambda: ForeignData(class_path="my.Data", init_args=[1]), f"ForeignData.init_args is [1]; {MAPPING}"),
        (lambda: WarmStart(network=VGG_A, layers=("head",), recipe=(1,)), f"WarmStart.recipe is (1,); {MAPPING}"),
    ],
)
def test_a_value_that_a_field_does_not_admit_is_refused_with_what_is_expected(make, text):
    with pytest.raises(InvalidValue) as caught:
        make()
    assert str(caught.value) == text


def test_an_unknown_path_suggests_the_nearest_field():
    with pytest.raises(UnknownPath, match=r"Recipe has no field 'epoch'\. Did you mean 'epochs'\?"):
        edit_field(SETUP, "recipe.epoch", 3)


def test_a_path_cannot_go_below_a_leaf():
    with pytest.raises(UnknownPath, match="74 has no fields, so there is no field 'count' below it"):
        edit_field(SETUP, "recipe.epochs.count", 3)


def test_an_edit_makes_a_new_value_and_leaves_the_old_one():
    changed = edit_field(SETUP, "recipe.epochs", 3)
    assert (changed.recipe.epochs, SETUP.recipe.epochs) == (3, 74)
    assert replace(changed, recipe=SETUP.recipe) == SETUP


def test_flattening_names_every_leaf_once():
    leaves = flatten_fields(SETUP)
    assert leaves["network.stages.2.convs.1.kernel"] == 3
    assert leaves["recipe.learning_rate"] == 0.01
    assert len(leaves) == len(set(leaves))


def test_different_setups_flatten_differently():
    setups = [Setup(network=network) for network in NETWORKS.values()]
    assert len({tuple(flatten_fields(setup).items()) for setup in setups}) == len(setups)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_setup_survives_json(name):
    setup = Setup(network=NETWORKS[name])
    assert from_json(to_json(setup), SPEC_KINDS) == setup


def test_json_of_an_unknown_kind_is_refused():
    with pytest.raises(InvalidValue, match="unknown kind 'Transformer'"):
        from_json({"kind": "Transformer"}, SPEC_KINDS)


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("recipe.epochs", "5", 5),
        ("recipe.learning_rate", "1e-2", 0.01),
        ("recipe.augmentation", "none", "none"),
        ("network.head.dropout", "0", 0.0),
    ],
)
def test_text_is_read_as_the_type_of_its_field(path, text, value):
    assert parse_leaf(annotation_at(SETUP, path), text) == value


def test_text_that_cannot_be_read_says_so():
    with pytest.raises(InvalidValue, match="'five' cannot be read as a whole number"):
        parse_leaf(annotation_at(SETUP, "recipe.epochs"), "five")


def test_realising_narrows_every_width_and_nothing_else():
    narrow = apply_scale(VGG_E, Scale(resolution=32, width=0.125))
    assert [stage.width for stage in narrow.stages] == [8, 16, 32, 64, 64]
    assert narrow.head.widths == (512, 512)
    assert [stage.convs for stage in narrow.stages] == [stage.convs for stage in VGG_E.stages]


def test_an_input_too_small_for_the_poolings_is_refused():
    with pytest.raises(InvalidValue, match=r"Scale\.resolution is 16; expected 32 pixels or more"):
        apply_scale(VGG_A, Scale(resolution=16))


def test_a_path_may_go_through_the_places_of_a_tuple():
    changed = edit_field(SETUP, "network.stages.1.width", 96)
    assert [stage.width for stage in changed.network.stages] == [64, 96, 256, 512, 512]
    assert annotation_at(SETUP, "network.head.widths.0") is int
    with pytest.raises(UnknownPath, match="'9' is not an index of these 5 items; expected 0 to 4"):
        edit_field(SETUP, "network.stages.9.width", 1)


def test_a_whole_number_in_a_floats_place_becomes_one():
    assert isinstance(Recipe(clip_norm=1).clip_norm, float)


def test_values_that_are_equal_are_written_alike():
    def written(clip_norm):
        start = WarmStart(network=VGG_A, layers=("head",), recipe={"clip_norm": clip_norm, "epochs": 2})
        return json.dumps(to_json(replace(SETUP, recipe=Recipe(clip_norm=clip_norm), start=start)))

    assert written(1) == written(1.0)
    assert written(0) == written(0.0) == written(-0.0)


def test_zeros_of_either_sign_are_one_argument():
    positive, negative = Arguments({"x": 0.0}), Arguments({"x": -0.0})
    assert positive == negative
    assert str(negative["x"]) == "0.0"  # as a fingerprint reads it
