"""`ablate profile` of blocks of layers."""

import json

import pytest
from click.testing import CliRunner

from studies.cli.app import main
from studies.inspection.block_profiles import is_block, profile_block

ONE_11X11 = "conv 11x11 64->128"
THREE_3X3 = "conv 3x3 64->128 | conv 3x3 128->128 | conv 3x3 128->128"
FIVE_3X3 = THREE_3X3 + " | conv 3x3 128->128 | conv 3x3 128->128"


def call(*arguments, code=0):
    shown = CliRunner().invoke(main, ["profile", *map(str, arguments)])
    assert shown.exit_code == code, shown.output
    return shown.output


def test_three_3x3_have_fewer_parameters_than_one_11x11_and_it_takes_five_to_see_as_much():
    data = json.loads(call(ONE_11X11, THREE_3X3, FIVE_3X3, "--json"))["networks"]
    assert [block["parameters"] for block in data] == [991_360, 369_024, 664_192]
    assert [block["receptive_field"] for block in data] == [11, 7, 11]
    assert [block["network"] for block in data] == [ONE_11X11, THREE_3X3, FIVE_3X3]
    # Per position of the output: the weights without the biases.
    assert [block["multiply_adds"] for block in data] == [11 * 11 * 64 * 128, 368_640, 663_552]
    assert data[0]["scale"] == {"resolution": None, "channels": 64}


def test_the_tables_name_the_blocks_and_say_what_multiply_adds_are_counted_for():
    shown = " ".join(call(ONE_11X11, THREE_3X3).split())
    assert "991,360" in shown
    assert "369,024" in shown
    assert "of one position of the output map" in shown
    assert "of an input map of 14 x 14" in call(ONE_11X11, "--resolution", 14)


def test_a_map_has_the_multiply_adds_of_its_positions():
    assert profile_block(THREE_3X3, 14).profile.multiply_adds == 14**2 * 368_640


def test_strides_groups_dilation_and_pooling_count():
    stem = "conv 7x7 3->64 stride 2 | batchnorm | relu | maxpool 3x3 stride 2"
    profile = profile_block(stem, 224).profile
    assert profile.multiply_adds == 112**2 * 49 * 3 * 64
    assert profile.layers[-1].output == (64, 56, 56)
    assert (profile.receptive_field, profile.nonlinearities) == (11, 1)
    # One position after the pooling takes 2 x 2 of the convolution.
    assert profile_block(stem, None).profile.multiply_adds == 4 * 49 * 3 * 64
    depthwise = profile_block("conv 3x3 8->8 groups 8 dilation 2 no-bias | maxpool 2x2", None).profile
    assert (depthwise.parameters, depthwise.receptive_field) == (72, 6)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("conv 3x3",), "'conv 3x3' has no channels after its kernel"),
        (("conv",), "'conv' has no kernel after 'conv'; expected one such as 3x3."),
        (("cnv 3x3 3->4",), "begins with no known kind. Did you mean 'conv'?"),
        (("conv 3x3 3->4 |",), "A block has an empty layer; expected layers between bars"),
        (("conv 3x3 3->4 | conv 3x3 3->4",), "takes 3 channels, but 'conv 3x3 3->4' before it gives 4."),
        (("conv 4x4 3->4",), "has an even kernel"),
        (("conv 3x3 3->4 strde 2",), "has an option 'strde' that it cannot take"),
        (("conv 3x3 3->4 stride",), "has nothing as its stride; expected 1 to 1,000."),
        (("conv 3x3 3->4 groups 2",), "has channels that its 2 groups do not divide"),
        (("conv 3x3 3->0",), "has 0 as its number of channels; expected 1 to 65,536."),
        (("conv 3x3 3->4 stride 999 | conv 3x3 4->4 stride 999",), "strides multiply to 998,001"),
        (("batchnorm | conv 3x3 3->4",), "has no convolution before it"),
        (("relu",), "has no convolution, so its channels are unknown"),
        (("vgg-d", "conv 3x3 3->4"), "'vgg-d' is no block of layers"),
        (("conv 3x3 3->4", "--width", "2"), "--width: only for networks; a block states its own channels."),
    ],
)
def test_a_wrong_block_is_one_clear_line(arguments, text):
    assert text in " ".join(call(*arguments, code=2).split())


@pytest.mark.parametrize("name", ["vgg-d", "depth/E", "receptive_field/one 7×7", "depth", "./my->net.py/A"])
def test_names_of_networks_and_arms_are_no_blocks(name):
    assert not is_block(name)
