"""Networks as built: layers in a few words, equal differences on one line; and objects of a setup told shortly."""

from __future__ import annotations

import pytest

from ablations import Difference
from reports.analysis.setting_changes import SettingChange, collapse_changes
from reports.comparison.comparison import compare_arms
from reports.content.sections.layer_labels import describe_layer, module_differences
from reports.renderers import html, markdown
from tests.reports.records import crossed, record


@pytest.mark.parametrize(
    ("printed", "told"),
    [
        ("Conv2d(64, 128, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))", "Conv2d 64→128, 3×3"),
        ("Conv2d(3, 64, kernel_size=(7, 7), stride=(2, 2), padding=(3, 3), bias=False)",
         "Conv2d 3→64, 7×7, stride 2, without bias"),
        ("Conv2d(64, 64, kernel_size=(1, 1), stride=(1, 1))", "Conv2d 64→64, 1×1"),
        ("Conv2d(3, 8, kernel_size=(3, 3), stride=(1, 1))", "Conv2d 3→8, 3×3, padding 0"),
        ("Conv2d(8, 8, kernel_size=(3, 1), stride=(2, 1), padding=(1, 0), groups=8)",
         "Conv2d 8→8, 3×1, stride 2×1, groups 8"),
        ("Conv2d(8, 8, kernel_size=(3, 3), stride=(1, 1), padding=same)", "Conv2d 8→8, 3×3, padding same"),
        ("Linear(in_features=512, out_features=10, bias=True)", "Linear 512→10"),
        ("Linear(in_features=512, out_features=10, bias=False)", "Linear 512→10, without bias"),
        ("BatchNorm2d(64, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True)", "BatchNorm2d 64"),
        ("BatchNorm2d(64, eps=0.001, momentum=0.1, affine=True, track_running_stats=True)",
         "BatchNorm2d 64, eps 0.001"),
        ("GroupNorm(32, 64, eps=1e-05, affine=True)", "GroupNorm 64 in 32 groups"),
        ("ReLU(inplace=True)", "ReLU"),
        ("ReLU()", "ReLU"),
        ("GELU(approximate='none')", "GELU"),
        ("GELU(approximate='tanh')", "GELU, approximate 'tanh'"),
        ("MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)", "MaxPool2d 2×2"),
        ("MaxPool2d(kernel_size=3, stride=2, padding=1, dilation=1, ceil_mode=False)",
         "MaxPool2d 3×3, stride 2, padding 1"),
        ("Dropout(p=0.5, inplace=False)", "Dropout 0.5"),
        ("Identity()", "Identity"),
        ("absent", "absent"),
        ("LocalResponseNorm(5, alpha=0.0005, k=2.0)", "LocalResponseNorm(5, alpha=0.0005, k=2.0)"),
        ("Mixer(heads=2) with table 4×8 (odd)", "Mixer(heads=2) with table 4×8 (odd)"),
        ("Conv2d() with weight 3×3", "Conv2d() with weight 3×3"),
        ("Linear(", "Linear("),
    ],
)  # fmt: skip
def test_a_well_known_layer_is_told_in_a_few_words(printed, told):
    assert describe_layer(printed) == told


def came(*paths, what="ReLU(inplace=True)"):
    return [Difference(path=path, before=None, after=what) for path in paths]


def test_numbers_inside_names_are_places_too():
    assert module_differences(came("stage1.relu2", "stage3.relu3")) == (
        SettingChange(path="stage*.relu*", before="absent", after="ReLU", locations=("1.2", "3.3")),
    )


def test_a_number_that_is_everywhere_the_same_stands_in_the_name():
    (part,) = module_differences(came("stage1.block4.relu1", "stage1.block5.relu1", "stage2.block4.relu1"))
    assert (part.path, part.location_text) == ("stage*.block*.relu1", "1.4, 1.5, 2.4")


def test_a_single_part_keeps_its_place():
    assert module_differences(came("stage3.conv1")) == (
        SettingChange(path="stage3.conv1", before="absent", after="ReLU"),
    )


def test_numbers_within_a_word_belong_to_it():
    assert [part.path for part in module_differences(came("function max_pool2d", "branch3x3.conv"))] == [
        "function max_pool2d", "branch3x3.conv",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("places", "told"),
    [
        (("1", "2", "4"), "1, 2, 4"),
        (("1.1", "1.2", "1.3", "2.1"), "1.1–1.3, 2.1"),
        (("1.4.1", "1.4.2", "1.5.1", "1.5.2"), "1.4.1, 1.4.2, 1.5.1, 1.5.2"),
        (tuple(f"1.{block}.{conv}" for block in range(4, 8) for conv in (1, 2)), "1.4–1.7, in each 1, 2"),
    ],
)
def test_runs_of_places_are_ranges(places, told):
    assert SettingChange(path="*", before="a", after="b", locations=places).location_text == told


def test_arms_whose_networks_are_alike_are_said_so():
    text = markdown.render_report(compare_arms(record(("A", "B"), built={"B": ()})), ())
    assert "The instantiated network of B has exactly the modules of A." in text
    assert "Modules that differ" not in text


def test_a_long_table_of_parts_is_folded_on_the_page():
    text = html.render_report(compare_arms(crossed()), ())
    assert "<summary>Modules that differ in the instantiated networks (22)</summary>" in text
    short = html.render_report(compare_arms(record(("A", "B"))), ())
    assert "<summary>Modules that differ" not in short
    assert "Modules that differ in the instantiated networks" in short


def test_an_object_of_another_kind_is_told_as_one_value_on_either_side():
    changed = [
        Difference(path="network.kind", before="Vgg", after="Custom"),
        Difference(path="network.stages.0.width", before=64, after=None),
        Difference(path="network.stages.1.width", before=128, after=None),
        Difference(path="network.class_path", before=None, after="mine.Net"),
        Difference(path="network.init_args.depth", before=None, after=3),
    ]
    assert collapse_changes(changed) == (
        SettingChange(
            path="network",
            before="Vgg(stages=(2 entries))",
            after="Custom(class_path=mine.Net, init_args=(depth=3))",
        ),
    )
