"""`ablate profile`: one network, several, pictures; and the arithmetic that people quote."""

import json
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner
from PIL import Image
from torch import nn

from lightning_modules.profiling.profile import profile_module
from lightning_modules.specs.errors import UserError
from lightning_modules.specs.scale import Scale
from studies.cli.app import main
from studies.inspection.named_profile import ProfileSection
from studies.inspection.network_profiles import (
    expand_names,
    group_sections,
    merge_orders,
    profile_network,
    resolve_setup,
)


def call(*arguments, code=0):
    shown = CliRunner().invoke(main, ["profile", *map(str, arguments)])
    assert shown.exit_code == code, shown.output
    return shown.output


def lines(shown, start):
    return [line.split() for line in shown.splitlines() if line.startswith(start)]


def test_one_network_is_shown_by_layer_by_part_and_in_sum():
    shown = call("vgg-d")
    assert lines(shown, "stage5.conv3") == [
        ["stage5.conv3", "Conv2d", "512", "x", "14", "x", "14", "2,359,808", "462,422,016", "196"]
    ]
    assert lines(shown, "stage4 ") == [["stage4", "5,899,776", "4.3", "%", "4,624,220,160", "29.9", "%"]]
    assert lines(shown, "multiply-adds ") == [["multiply-adds", "15,470,264,320"]]
    assert lines(shown, "non-linearities") == [["non-linearities", "13"]]


def test_the_head_of_vgg_16_holds_most_of_its_parameters_and_its_weights_take_553_megabytes():
    shown = call("vgg-d")
    assert lines(shown, "head ") == [["head", "123,642,856", "89.4", "%", "123,633,664", "0.8", "%"]]
    assert lines(shown, "weights") == [["weights", "553", "MB"]]


def test_resnet_34_takes_a_fifth_of_the_arithmetic_of_vgg_19():
    shown = call("vgg-e", "resnet-34")
    absolute, relative = lines(shown, "resnet-34 ")
    assert lines(shown, "vgg-e ")[0][4] == "19,632,062,464"
    assert absolute[4] == "3,663,761,408"
    assert relative[4] == "0.187"
    assert "times vgg-e" in shown


def test_several_networks_are_shown_side_by_side_with_their_shares():
    shown = call("vgg-d", "resnet-34")
    assert lines(shown, "vgg-d ") == [
        ["vgg-d", "16", "138,357,544", "14,714,688", "15,470,264,320", "212", "13", "553"]
    ]
    assert lines(shown, "head ") == [["head", "89.4", "%", "2.4", "%"], ["head", "0.8", "%", "0.0", "%"]]
    assert lines(shown, "stem ") == [["stem", "0.0", "%"], ["stem", "3.2", "%"]]
    assert "resnet-34: functions add 16" in shown


def test_what_inference_does_not_use_is_told():
    assert lines(call("googlenet"), "idle") == [["idle", "parameters", "6,379,984"]]


@pytest.mark.parametrize(
    ("kernels", "parameters"),
    # From 64 to 128 channels, biases counted: one 11×11, three 3×3 and one 5×5.
    [((11,), 991_360), ((3, 3, 3), 369_024), ((5,), 204_928)],
)
def test_stacks_of_small_kernels_against_one_large_kernel(kernels, parameters):
    widths = (64, *[128] * len(kernels))
    layers = (
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
        for inputs, outputs, kernel in zip(widths[:-1], widths[1:], kernels, strict=True)
    )
    assert profile_module(nn.Sequential(*layers), (64, 16, 16)).parameters == parameters


def test_an_arm_of_an_ablation_is_a_network():
    arm, network = (
        json.loads(call(name, "--json", "--resolution", 32, "--classes", 10)) for name in ("depth/E", "vgg-e")
    )
    assert arm.pop("network") == "depth/E"
    assert network.pop("network") == "vgg-e"
    assert arm == network


def test_json_of_one_network_has_the_parts():
    data = json.loads(call("vgg-d", "--json"))
    assert data["network"] == "vgg-d"
    assert data["weights_megabytes"] == pytest.approx(553.43, abs=0.01)
    assert data["parts"][-1] == {"name": "head", "parameters": 123642856, "multiply_adds": 123633664}
    assert sum(part["parameters"] for part in data["parts"]) == data["parameters"]


def test_json_of_several_networks_is_a_list():
    data = json.loads(call("vgg-a", "resnet-18", "--json"))
    assert [network["network"] for network in data["networks"]] == ["vgg-a", "resnet-18"]
    assert data["networks"][1]["functions"] == {"add": 8}


def test_pictures_are_written_and_their_paths_printed(tmp_path):
    folder = tmp_path / "new"
    shown = call("vgg-d", "resnet-34", "googlenet", "--pictures", folder).splitlines()
    names = ("parameters", "multiply-adds", "receptive-field")
    expected = [folder / f"{name}.{form}" for name in names for form in ("svg", "png")]
    assert shown[-6:] == [str(path) for path in expected]
    for path in expected:
        if path.suffix == ".svg":
            assert ElementTree.parse(path).getroot().tag.endswith("svg")
        else:
            with Image.open(path) as picture:
                assert picture.width > 1000


def test_pictures_are_the_same_bytes_every_time(tmp_path):
    for folder in ("one", "two"):
        call("resnet-20", "--resolution", 32, "--pictures", tmp_path / folder)
    assert len(list((tmp_path / "one").iterdir())) == 6
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_paths_of_pictures_are_in_the_json(tmp_path):
    data = json.loads(call("vgg-a", "--json", "--pictures", tmp_path))
    assert len(data["pictures"]) == 6


def test_parts_are_those_at_the_top_that_learn_or_multiply():
    assert [part.name for part in profile_network("resnet-18", Scale()).sections] == [
        "stem", "stage1", "stage2", "stage3", "stage4", "head",
    ]  # fmt: skip


def test_many_parts_are_grouped():
    parts = [
        ProfileSection(name=f"inception{name}", parameters=1, multiply_adds=2)
        for name in ("3a", "3b", "4a", "4b", "4c")
    ]
    assert group_sections(parts) == tuple(parts)
    assert group_sections(parts, max_sections=4) == (
        ProfileSection(name="inception3", parameters=2, multiply_adds=4),
        ProfileSection(name="inception4", parameters=3, multiply_adds=6),
    )


@pytest.mark.parametrize(
    ("orders", "expected"),
    [
        ((("a", "b", "head"), ("stem", "a", "head")), ("stem", "a", "b", "head")),
        ((("a", "head"), ("a", "b", "c", "head")), ("a", "b", "c", "head")),
        ((("a", "b"), ("x", "y")), ("a", "b", "x", "y")),
    ],
)
def test_names_of_several_networks_keep_their_order(orders, expected):
    assert merge_orders(orders) == expected


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("vgg-dd",), "No network named 'vgg-dd'. Did you mean 'vgg-d'?"),
        (("vgg-a", "vgg-dd"), "No network named 'vgg-dd'. Did you mean 'vgg-d'?"),
        (("dept/E",), "No ablation named 'dept'. Did you mean 'depth'?"),
        (("depth/e",), "The ablation 'depth' has no arm 'e'. There are: A, B, D, E."),
        (("vgg-a", "--resolution", "8"), "expected 32 pixels or more"),
        (("alexnet", "--resolution", "32"), "AlexNet fails on an image of 3 x 32 x 32, in features.12 (MaxPool2d)"),
        (("vgg-a", "--classes", "1"), "1 is not in the range 2<=x"),
        ((), "Missing argument 'NETWORK...'"),
    ],
)
def test_misuse_is_one_clear_line_and_draws_nothing(arguments, text, tmp_path):
    shown = call(*arguments, "--pictures", tmp_path / "pictures", code=2)
    assert text in " ".join(shown.split())
    assert not (tmp_path / "pictures").exists()


def test_an_ablation_stands_for_all_its_arms():
    assert expand_names(["vgg-a", "lrn", "lrn/A"]) == ("vgg-a", "lrn/A", "lrn/A-LRN")


@pytest.mark.slow
def test_an_ablation_is_profiled_by_the_path_of_its_file():
    path = "examples/my_ablation.py"
    assert expand_names([path, "vgg-a"]) == (f"{path}/plain", f"{path}/smoothed", "vgg-a")
    shown = call(path, "--resolution", "32", "--classes", "10")
    assert f"{path}/smoothed" in shown
    assert lines(call(f"{path}/plain", "--resolution", "32", "--classes", "10"), "weights")
    text = call(f"{path}/smooth", code=2)
    assert "has no arm 'smooth'. Did you mean 'smoothed'?" in " ".join(text.split())


def test_a_file_without_an_arm_is_answered_with_its_arms(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from ablations import Ablation, Arm\n"
        "ABLATION = Ablation(question='Why?', baseline=Arm('low', {'recipe.momentum': 0.0}), "
        "arms=(Arm('high', {'recipe.momentum': 0.9}),), varies=('recipe.momentum',), claims=())\n"
    )
    with pytest.raises(UserError, match=r"has no arm ''\. There are: low, high"):
        resolve_setup(f"{tmp_path / 'mine.py'}", Scale())
