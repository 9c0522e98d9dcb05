"""One change, as declared: arms, differences, refusals."""

from dataclasses import replace

import pytest

import ablations
from ablations import (
    Ablation,
    AllOf,
    Arm,
    ByResolution,
    DoesNotHelp,
    Factor,
    Factorial,
    FallsWith,
    Helps,
    HelpsBy,
    InvalidAblation,
    Metric,
    NotASingleChange,
    Reference,
    ReplicatedError,
    Replication,
    SaturatesAt,
    Times,
    compare_properties,
    compare_setups,
    confounding_forced_paths,
)
from lightning_modules.specs.catalogue import PLAIN_20, PLAIN_34, RESNET_20, RESNET_34_A, VGG_A, VGG_A_LRN, VGG_B
from lightning_modules.specs.errors import InvalidValue, UnknownPath
from lightning_modules.specs.networks import Custom
from lightning_modules.specs.recipe import Recipe
from lightning_modules.specs.scale import Scale
from lightning_modules.specs.setup import Setup, WarmStart
from lightning_modules.specs.values import annotation_at, flatten_fields
from studies import protocols

A = Arm("A", {"network": VGG_A})
LRN = Arm("LRN", {"network": VGG_A_LRN})


def make(**changes):
    return Ablation(**{"question": "Why?", "baseline": A, "arms": (LRN,), "varies": ("network.norm",), **changes})


def test_an_arm_that_changes_one_declared_thing_is_accepted():
    setups = make().setups(Setup(network=VGG_B))
    assert [setup.network.norm for setup in setups.values()] == ["none", "lrn-first"]


def test_a_second_change_is_named_in_the_error_with_both_values():
    stray = Arm("LRN", {"network": VGG_A_LRN, "recipe.learning_rate": 0.1})
    with pytest.raises(NotASingleChange) as caught:
        make(arms=(stray,))
    assert "arm 'LRN' may vary only network.norm, but it also changes" in str(caught.value)
    assert "recipe.learning_rate: 0.01 -> 0.1" in str(caught.value)


def test_every_stray_change_is_listed():
    stray = Arm("LRN", {"network": replace(VGG_A_LRN, init="glorot"), "recipe.epochs": 3})
    with pytest.raises(NotASingleChange) as caught:
        make(arms=(stray,))
    assert "network.init: he -> glorot" in str(caught.value)
    assert "recipe.epochs: 74 -> 3" in str(caught.value)


def test_a_forced_change_is_accepted_with_its_reason():
    both = Arm("LRN", {"network": VGG_A_LRN, "recipe.learning_rate": 0.1})
    assert make(arms=(both,), forced={"recipe.learning_rate": "it must be so"}).forced


def test_a_path_covers_what_lies_below_it_and_not_what_merely_begins_alike():
    make(arms=(Arm("B", {"network": VGG_B}),), varies=("network.stages",))
    with pytest.raises(NotASingleChange):
        make(arms=(Arm("one layer more", {"network": VGG_B}),), varies=("network.stages.0.convs.1",))


def custom(**arguments):
    return {"network": Custom(class_path="mine.Net", init_args=arguments)}


@pytest.mark.parametrize(("before", "after"), [(1, True), (1, 1.0), (False, 0), ("1", 1)])
def test_a_second_change_is_seen_where_only_the_type_of_an_argument_changes(before, after):
    arms = Arm("a", custom(width=8, flag=before)), Arm("b", custom(width=16, flag=after))
    with pytest.raises(NotASingleChange, match=rf"network\.init_args\.flag: {before} -> {after}"):
        make(baseline=arms[0], arms=arms[1:], varies=("network.init_args.width",))


def test_an_argument_may_vary_in_its_type_alone():
    arms = Arm("a", custom(flag=1)), Arm("b", custom(flag=True))
    ablation = make(baseline=arms[0], arms=arms[1:], varies=("network.init_args.flag",))
    assert [setup.network.init_args["flag"] for setup in ablation.setups(Setup(network=VGG_A)).values()] == [1, True]


def test_two_arguments_that_are_no_number_are_equal():
    arms = Arm("a", custom(width=8, limit=float("nan"))), Arm("b", custom(width=16, limit=float("nan")))
    make(baseline=arms[0], arms=arms[1:], varies=("network.init_args.width",))
    same = [custom(limit=float("nan"))["network"] for _ in range(2)]
    assert same[0] == same[1]
    assert len(set(same)) == 1


def test_a_float_of_a_source_networks_recipe_may_be_written_as_a_whole_number():
    whole, number = (WarmStart(network=VGG_A, layers=("head",), recipe={"learning_rate": rate}) for rate in (1, 1.0))
    assert whole == number
    assert flatten_fields(whole) == flatten_fields(number)
    assert repr(whole.recipe) == "{'learning_rate': 1.0}"


def test_two_equal_arms_are_refused():
    with pytest.raises(InvalidAblation, match="arms 'A' and 'same' are the same setup"):
        make(arms=(LRN, Arm("same", {"network": VGG_A})))


def test_an_arm_may_set_the_default_of_the_class_which_is_no_protocols_value():
    """``digits`` shifts, and does not flip."""
    ablation = make(
        arms=(Arm("flips", {"network": VGG_A, "recipe.augmentation": "shift-flip"}),), varies=("recipe.augmentation",)
    )
    assert ablation._repr_html_()
    digits = protocols.load("digits").setup
    assert ablation.setups(digits)["flips"].recipe.augmentation == "shift-flip"
    with pytest.raises(
        InvalidAblation, match="arms 'A' and 'flips' are the same setup under this protocol, which sets"
    ):
        ablation.setups(digits, {"recipe.augmentation": "shift-flip"})


def test_two_arms_of_one_name_are_refused():
    with pytest.raises(InvalidAblation, match="two arms are named 'A'"):
        make(arms=(Arm("A", {"network": VGG_A_LRN}),))


def test_an_unknown_path_is_refused_where_the_arm_is_declared():
    with pytest.raises(UnknownPath, match=r"arm 'x', path 'recipe\.augmentatoin': .*Did you mean 'augmentation'"):
        Arm("x", {"recipe.augmentatoin": "none"})


def test_an_inadmissible_value_is_refused_where_the_arm_is_declared():
    with pytest.raises(InvalidValue, match=r"arm 'x', path 'recipe\.augmentation': .* is 'nothing'; expected one of"):
        Arm("x", {"recipe.augmentation": "nothing"})


@pytest.mark.parametrize(
    "changes",
    [
        {"claims": (Helps(arm="LRM", over="A"),)},
        {"reference": Reference(source="s", quantity="q", values={"LRM": 1.0})},
    ],
)
def test_a_claim_or_figure_about_no_arm_is_refused(changes):
    with pytest.raises(InvalidAblation, match=r"names the unknown arm 'LRM'\. Did you mean 'LRN'"):
        make(**changes)


def test_an_ablation_of_one_arm_is_refused():
    with pytest.raises(InvalidAblation, match="needs at least one arm besides its baseline"):
        make(arms=())


def test_a_setting_for_all_arms_overrides_each_of_them_and_keeps_the_contract():
    setups = make().setups(Setup(network=VGG_B), {"network.init": "glorot", "recipe.epochs": 3})
    assert {(setup.network.init, setup.recipe.epochs) for setup in setups.values()} == {("glorot", 3)}


def test_differences_are_summed_up_in_words():
    changes = ablations.compare_setups(Setup(network=VGG_A), Setup(network=VGG_B))
    assert ablations.summarize_differences(changes) == (
        "network.stages.*.convs.*: absent -> kernel=3, activate=True (2 times)",
    )


def test_a_plateau_needs_an_arm_beyond_it():
    with pytest.raises(InvalidValue, match="only with an arm before it and an arm beyond it"):
        SaturatesAt(arm="E", order=("A", "B", "E"))


def test_a_fall_needs_two_arms():
    with pytest.raises(InvalidValue, match=r"FallsWith\.order has 1 arms; expected two or more"):
        FallsWith(order=("A",))


def test_an_endpoint_that_is_none_is_refused():
    with pytest.raises(InvalidValue, match="Did you mean 'test_error'"):
        Helps(arm="A", over="B", endpoint="test_eror")


@pytest.mark.parametrize("changes", [{"varies": ("network.nrom",)}, {"forced": {"recipe.lerning_rate": "why"}}])
def test_a_declared_path_that_no_setup_has_is_refused(changes):
    with pytest.raises(InvalidAblation, match=r"is not a setting of any arm\. Did you mean"):
        make(**changes)


def test_a_margin_of_nothing_and_a_conjunction_of_one_are_refused():
    with pytest.raises(InvalidValue, match=r"HelpsBy.within is -2.0; expected a margin above 0"):
        HelpsBy(arm="A", over="B", by=1, within=-2)
    with pytest.raises(InvalidValue, match="expected two claims or more"):
        AllOf(parts=(Helps(arm="A", over="B"),))


PLAIN = Arm("plain", {"network": ByResolution(small=PLAIN_20, large=PLAIN_34)})


def test_an_arm_may_follow_the_resolution():
    assert PLAIN.apply(Setup(network=VGG_A)).network == PLAIN_34
    assert PLAIN.apply(Setup(network=VGG_A, scale=Scale(resolution=64))).network == PLAIN_20


@pytest.mark.parametrize("broken", ["small", "large"])
def test_the_contract_is_proved_for_each_branch(broken):
    branches = {"small": RESNET_20, "large": RESNET_34_A}
    branches[broken] = replace(branches[broken], init="glorot")
    with pytest.raises(NotASingleChange, match=r"network\.init: he -> glorot"):
        make(
            baseline=PLAIN, arms=(Arm("residual", {"network": ByResolution(**branches)}),), varies=("network.shortcut",)
        )


def test_reference_figures_may_follow_the_resolution():
    large = Reference(source="s", quantity="q", values={"A": 1.0})
    ablation = make(reference=ByResolution(small=None, large=large))
    assert ablation.reference_for(Setup(network=VGG_A)) == large
    assert ablation.reference_for(Setup(network=VGG_A, scale=Scale(resolution=32))) is None


def test_a_multiple_is_one_of_what_the_protocol_says_and_of_what_is_set_for_all():
    longer = make(arms=(Arm("longer", {"recipe.epochs": Times(2)}),), varies=("recipe.epochs",))
    base = Setup(network=VGG_A, recipe=Recipe(epochs=5))
    assert [setup.recipe.epochs for setup in longer.setups(base).values()] == [5, 10]
    assert [setup.recipe.epochs for setup in longer.setups(base, {"recipe.epochs": 3}).values()] == [3, 6]


def test_a_multiple_of_what_is_no_number_is_refused():
    with pytest.raises(InvalidValue, match=r"recipe\.schedule is 'cosine'; expected a number to multiply by 2"):
        Arm("x", {"recipe.schedule": Times(2)})


def crossed(**changes):
    two = {"rows": Factor(name="r", levels=("1", "2")), "columns": Factor(name="c", levels=("1", "2"))}
    return Factorial(**{**two, "cells": (("A", "LRN"), ("B", "C")), **changes})


def test_a_factorial_with_a_missing_or_repeated_cell_is_refused():
    for cells in ((("A", "LRN"),), (("A", "LRN"), ("B", "A"))):
        with pytest.raises(
            InvalidAblation, match=r"the factorial r × c needs a row of 2 different arms for each of 1, 2"
        ):
            crossed(cells=cells)


def test_a_factorial_of_one_level_is_refused():
    with pytest.raises(InvalidAblation, match="at least two levels of each factor"):
        crossed(rows=Factor(name="r", levels=("1",)), cells=(("A", "LRN"),))


def test_two_levels_of_one_name_are_refused():
    with pytest.raises(InvalidAblation, match="the factor r has the levels s, s; expected different ones"):
        crossed(rows=Factor(name="r", levels=("s", "s")))


def test_a_factorial_about_no_arm_is_refused():
    with pytest.raises(InvalidAblation, match="a factorial names the unknown arm 'B'"):
        make(factorial=crossed())


def norm_by_dropout(exchanged):
    names = ("A", "B", "C", "D")
    settings = [(norm_value, rate) for norm_value in ("none", "batch") for rate in (0.0, 0.5)]
    arms = []
    for name, (norm_value, rate) in zip(names, settings, strict=True):
        arms.append(Arm(name, {"network": VGG_A, "network.norm": norm_value, "network.head.dropout": rate}))
    cells = (names[:2], names[2:])
    factorial = Factorial(
        rows=Factor(name="norm", levels=("none", "batch")),
        columns=Factor(name="dropout", levels=("0", "0.5")),
        cells=tuple(zip(*cells, strict=True)) if exchanged else cells,
    )
    return Ablation(
        question="?",
        baseline=arms[0],
        arms=tuple(arms[1:]),
        varies=("network.norm", "network.head.dropout"),
        factorial=factorial,
    )


@pytest.mark.parametrize("exchanged", [False, True])
def test_a_factorial_names_what_changes_with_each_factor(exchanged):
    ablation = norm_by_dropout(exchanged)
    changed = ablation.factorial.changed_paths(ablation.setups(protocols.load("digits").setup))
    expected = (("network.norm",), ("network.head.dropout",))
    assert changed == (expected[::-1] if exchanged else expected)


BEFORE = {
    "weight_layers": 11,
    "parameters": 1000,
    "conv_parameters": 100,
    "multiply_adds": 1000,
    "receptive_field": 150,
}


@pytest.mark.parametrize(
    ("moves", "studied", "clean"),
    [
        ({}, None, True),
        ({"multiply_adds": 1050}, None, True),  # 5% is not more than 5%
        ({"weight_layers": 13}, None, True),
        ({"weight_layers": 13, "multiply_adds": 1051}, None, False),
        ({"weight_layers": 13, "multiply_adds": 1051}, "weight_layers", False),
        ({"weight_layers": 13}, "weight_layers", True),
        ({"parameters": 2000, "conv_parameters": 200}, None, True),  # one thing, told once
        ({"parameters": 2000, "conv_parameters": 200, "multiply_adds": 2000}, "parameters", False),
    ],
)
def test_a_contrast_is_clean_where_nothing_moved_beside_its_subject(moves, studied, clean):
    assert compare_properties(BEFORE, BEFORE | moves, studied).is_unconfounded is clean


def test_what_is_not_known_of_both_networks_is_named():
    after = {name: value for name, value in BEFORE.items() if name != "receptive_field"}
    assert compare_properties(BEFORE, after).unmeasured == ("receptive_field", "nonlinearities")
    assert compare_properties(after, after).unmeasured == ("receptive_field", "nonlinearities")


def test_what_was_forced_with_a_change_makes_it_a_bundle():
    assert compare_properties(BEFORE, BEFORE).is_unconfounded
    assert not compare_properties(BEFORE, BEFORE, forced=("recipe.learning_rate",)).is_unconfounded
    assert not compare_properties(
        BEFORE, BEFORE | {"weight_layers": 13}, "weight_layers", ("recipe.learning_rate",)
    ).is_unconfounded


@pytest.mark.parametrize(
    ("edits", "found"),
    [
        ({"network": VGG_A_LRN}, ()),
        ({"recipe.epochs": 5}, ()),  # that alone is what differs
        ({"network": VGG_A_LRN, "recipe.epochs": 5}, ("recipe.epochs",)),
        ({"recipe.epochs": 5, "recipe.learning_rate": 0.1}, ("recipe.learning_rate", "recipe.epochs")),
    ],
)
def test_a_forced_change_counts_where_something_else_differs(edits, found):
    before = Setup(network=VGG_A)
    changes = compare_setups(before, Arm("x", edits).apply(before))
    assert confounding_forced_paths(changes, ("recipe.learning_rate", "recipe.epochs")) == found


@pytest.mark.parametrize("factor", [Times(2), ByResolution(small=Times(3), large=Times(2))])
def test_a_forced_multiple_is_one_of_what_is_set_for_all(factor):
    control = make(arms=(LRN, Arm("longer", {"recipe.epochs": factor})), forced={"recipe.epochs": "control"})
    setups = control.setups(Setup(network=VGG_A), {"recipe.epochs": 3})
    assert [setup.recipe.epochs for setup in setups.values()] == [3, 3, 6]
    assert control.arms_overwritten_by("recipe.epochs", Setup(network=VGG_A), {"recipe.epochs": 3}) == ()


def test_a_forced_value_of_an_arms_own_stays_under_what_is_set_for_all():
    both = Arm("LRN", {"network": VGG_A_LRN, "recipe.epochs": 100})
    forced = make(arms=(both,), forced={"recipe.epochs": "it must be so"})
    setups = forced.setups(Setup(network=VGG_A), {"recipe.epochs": 3})
    assert [setup.recipe.epochs for setup in setups.values()] == [3, 100]
    assert forced.arms_overwritten_by("recipe.epochs", Setup(network=VGG_A), {"recipe.epochs": 3}) == ("LRN",)


def test_what_all_arms_fix_alike_is_overridden_in_all():
    arms = [Arm(name, {"network": network, "recipe.epochs": 9}) for name, network in (("A", VGG_A), ("LRN", VGG_A_LRN))]
    setups = make(baseline=arms[0], arms=(arms[1],)).setups(Setup(network=VGG_A), {"recipe.epochs": 3})
    assert {setup.recipe.epochs for setup in setups.values()} == {3}


WARM = WarmStart(network=VGG_A, layers=("head",))


def test_what_is_set_in_every_network_is_set_in_a_donors_as_well():
    warm = make(arms=(Arm("warm", {"network": VGG_A, "start": WARM}),), varies=("start",))
    setup = warm.setups(Setup(network=VGG_A), {"network.activation": "gelu"})["warm"]
    assert (setup.network.activation, setup.start.network.activation) == ("gelu", "gelu")


def test_what_a_donor_does_not_take_is_refused():
    start = replace(WARM, network=RESNET_20)
    warm = make(arms=(Arm("warm", {"network": VGG_A, "start": start}),), varies=("start",))
    with pytest.raises(
        InvalidValue,
        match=r"network\.activation is set for all arms, but the network start\.network of arm 'warm' does not acc",
    ):
        warm.setups(Setup(network=VGG_A), {"network.activation": "gelu"})


def test_a_branch_that_is_refused_is_told_by_its_resolution():
    baseline = Arm("a", {"network": ByResolution(small=PLAIN_20, large=PLAIN_34)})
    other = Arm("b", {"network": ByResolution(small=PLAIN_20, large=replace(PLAIN_34, init="glorot"))})
    with pytest.raises(InvalidAblation, match=r"^at 32 pixels: arms 'a' and 'b' are the same setup"):
        make(baseline=baseline, arms=(other,), varies=("network.init",))
    with pytest.raises(NotASingleChange, match=r"^at 224 pixels: arm 'b' may vary only network\.stages"):
        make(baseline=baseline, arms=(other,), varies=("network.stages",))


def test_the_name_of_a_generated_donor_is_refused():
    with pytest.raises(
        InvalidValue, match="an arm is named 'donor of B'; names that begin with 'donor of' are reserved"
    ):
        Arm("donor of B", {"network": VGG_A})


@pytest.mark.parametrize("name", ["x" * 201, "two\nlines", "a\x1b[31mb"])
def test_a_name_that_no_table_can_show_is_refused(name):
    with pytest.raises(InvalidValue, match=f"has {len(name)} characters; expected up to 200 printable ones"):
        Arm(name, {"network": VGG_A})


def test_a_share_of_seeds_cannot_be_claimed_to_be_no_better():
    with pytest.raises(InvalidValue, match="a share of seeds has no smallest effect of interest; claim that an arm He"):
        DoesNotHelp(arm="A", over="B", endpoint="trainability")


REPLICATION = Replication(source="s", recipe="r", differs="", values={"A": ReplicatedError(mean=1.0)})
REFUSED_FIELDS = {
    "a property that is none": (
        {"property_studied": "weight_layer"},
        r"`property_studied` is 'weight_layer'; expected None or one of 'weight_layers'.*Did you mean 'weight_layers'",
    ),
    "forced paths without reasons": (
        {"forced": ("recipe.epochs",)},
        r"`forced` is \('recipe\.epochs',\); expected a mapping from paths to reasons",
    ),
    "an empty reason": (
        {"forced": {"recipe.epochs": " "}},
        r"`forced` has ' ' for recipe\.epochs; expected the reason",
    ),
    "no reason": ({"forced": {"recipe.epochs": None}}, r"`forced` has None for recipe\.epochs; expected the reason"),
    "a metric of other trainers": (
        {"claims": (Helps(arm="LRN", over="A", endpoint=Metric(name="mIoU")),)},
        r"a claim is about 'mIoU', .*expected an endpoint of a study's trials: test_error, balanced_error",
    ),
    "such a metric in a conjunction": (
        {"claims": AllOf(parts=(Helps(arm="LRN", over="A"), Helps(arm="LRN", over="A", endpoint=Metric(name="mIoU"))))},
        r"a claim is about 'mIoU'",
    ),
    "no baseline": ({"baseline": None}, r"`baseline` is None; expected an Arm"),
    "a number as question": ({"question": 5}, r"`question` is 5; expected text"),
    "a number of replications": ({"replications": 5}, r"`replications` is 5; expected a tuple of Replication objects"),
    "a number of replications by resolution": (
        {"replications": ByResolution(small=(), large=5)},
        r"`replications` is 5; expected a tuple of Replication objects",
    ),
    "claims by resolution": (
        {"claims": ByResolution(small=(), large=())},
        r"`claims` is .*; expected a tuple of Claim objects",
    ),
    "a mapping as reference": ({"reference": {"A": 1.0}}, r"`reference` is {'A': 1\.0}; expected None or a Reference"),
    "a text as factorial": ({"factorial": "x"}, r"`factorial` is 'x'; expected None or a Factorial"),
}


@pytest.mark.parametrize("mistake", REFUSED_FIELDS)
def test_a_field_of_another_type_is_refused_where_the_ablation_is_declared(mistake):
    changes, said = REFUSED_FIELDS[mistake]
    with pytest.raises(InvalidAblation, match=said):
        make(**changes)


def test_a_single_replication_needs_no_comma():
    assert make(replications=REPLICATION).replications == (REPLICATION,)


REFUSED_ARMS = {
    "a number as name": (lambda: Arm(5, {}), r"Arm\.name is 5; expected text"),
    "no edits": (lambda: Arm("x", None), r"the edits of arm 'x' are None; expected a mapping from paths to values"),
    "a number as path": (lambda: Arm("x", {1: 2}), r"the edits of arm 'x' are {1: 2}; expected a mapping from paths"),
    "a text as factor": (lambda: Times("2"), r"Times\.factor is '2'; expected a finite number"),
    "no number as factor": (lambda: Times(float("nan")), r"Times\.factor is nan; expected a finite number"),
    "an edit that a later one undoes": (
        lambda: Arm("x", {"network.norm": "batch", "network": VGG_A}),
        r"arm 'x' sets network\.norm before network, which replaces it; expected network first",
    ),
    "a second name of an index": (
        lambda: Arm("x", {"network.stages.00.width": 3}),
        r"path 'network\.stages\.00\.width': '00' is not an index of these 5 items; expected 0 to 4",
    ),
    "an index in other digits": (lambda: Arm("x", {"network.stages.².width": 3}), r"'²' is not an index"),
    "a path below an argument": (
        lambda: Arm("x", {**custom(width=8), "network.init_args.width.foo": 5}),
        r"8 has no fields, so there is no field 'foo' below it",
    ),
}


@pytest.mark.parametrize("mistake", REFUSED_ARMS)
def test_an_arm_that_cannot_be_meant_is_refused(mistake):
    make_arm, said = REFUSED_ARMS[mistake]
    with pytest.raises(InvalidValue, match=said):
        make_arm()


def test_there_is_no_annotation_below_an_argument():
    with pytest.raises(UnknownPath, match="8 has no fields"):
        annotation_at(Setup(**custom(width=8)), "network.init_args.width.foo")
