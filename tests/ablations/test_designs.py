"""Designs that generate an ablation: each against one that is written by hand, and what they refuse."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

import ablations
from ablations import (
    Ablation,
    AddOne,
    Arm,
    ByData,
    ByResolution,
    Component,
    DoesNotHelp,
    Helps,
    InvalidAblation,
    LeaveOneOut,
    StepByStep,
    Times,
)
from ablations._arms import DEFAULT_SETUP
from lightning_modules.catalogue import VGG_A, VGG_D
from lightning_modules.specs.errors import InvalidValue, UnknownPath
from lightning_modules.specs.networks import Custom
from lightning_modules.specs.values import flatten_fields
from studies import protocols
from studies.design.study import Study

BATCH_NORM = Component("batch norm", {"network.norm": "batch"}, source="Ioffe & Szegedy 2015")
GELU = Component("GELU", {"network.activation": "gelu"}, helps=False)
NO_DECAY = Component("weight decay", {"recipe.weight_decay": 0.0})
NO_DROPOUT = Component("dropout", {"network.head.dropout": 0.0}, helps=False, caveat="narrow heads")
FULL = Arm("full", {"network": ByResolution(small=VGG_A, large=VGG_D), "recipe.weight_decay": 5e-4})
NET = Custom(class_path="mine.Net", init_args={"flag": 0})
BASE = Arm("VGG", {"network": VGG_A})
TARGET = Arm("modern", {"network": replace(VGG_A, norm="batch", activation="gelu")})


def leave_one_out(*components, **fields):
    return LeaveOneOut(question="What is needed?", full=FULL, components=components or (NO_DECAY, NO_DROPOUT), **fields)


def add_one(*components, **fields):
    return AddOne(
        **{"question": "What helps alone?", "base": BASE, "components": components or (BATCH_NORM, GELU)} | fields
    )


def step_by_step(*steps, **fields):
    ends = {"base": BASE, "target": TARGET} | fields
    return StepByStep(question="Which step helps?", steps=steps or (BATCH_NORM, GELU), **ends)


ROOT = Path(ablations.__file__).parent.parent
BROKEN = '''"""Does it help?"""
from ablations import AddOne, Arm, Component
from lightning_modules.catalogue import VGG_A

ABLATION = AddOne(
    question=__doc__,
    base=Arm("VGG", {"network": VGG_A}),
    components=Component("dropout", {"network.head.dropout": 0.5}),
)
'''

TWINS = {
    "leave-one-out": (
        leave_one_out(),
        Ablation(
            question="What is needed?",
            baseline=FULL,
            arms=(
                Arm("without weight decay", {**FULL.edits, "recipe.weight_decay": 0.0}),
                Arm("without dropout", {**FULL.edits, "network.head.dropout": 0.0}),
            ),
            varies=("recipe.weight_decay", "network.head.dropout"),
            claims=(
                Helps(arm="full", over="without weight decay"),
                DoesNotHelp(arm="full", over="without dropout", caveat="narrow heads"),
            ),
        ),
    ),
    "add-one": (
        add_one(),
        Ablation(
            question="What helps alone?",
            baseline=BASE,
            arms=(
                Arm("with batch norm", {"network": replace(VGG_A, norm="batch")}),
                Arm("with GELU", {"network": replace(VGG_A, activation="gelu")}),
            ),
            varies=("network.norm", "network.activation"),
            claims=(
                Helps(arm="with batch norm", over="VGG", source="Ioffe & Szegedy 2015"),
                DoesNotHelp(arm="with GELU", over="VGG"),
            ),
        ),
    ),
    "step-by-step": (
        step_by_step(),
        Ablation(
            question="Which step helps?",
            baseline=BASE,
            arms=(Arm("batch norm (step 1)", {"network": replace(VGG_A, norm="batch")}), TARGET),
            varies=("network.norm", "network.activation"),
            claims=(
                Helps(arm="batch norm (step 1)", over="VGG", source="Ioffe & Szegedy 2015"),
                DoesNotHelp(arm="modern", over="batch norm (step 1)"),
                Helps(arm="modern", over="VGG"),
            ),
        ),
    ),
}


def trials_of(ablation, protocol, overrides):
    study = Study(name="x", ablation=ablation, protocol=protocols.load(protocol), seeds=(0, 1), overrides=overrides)
    return {(trial.arm, trial.seed): trial.fingerprint for trial in study.trials()}


@pytest.mark.parametrize("kind", TWINS)
@pytest.mark.parametrize("protocol", protocols.names())
def test_it_has_the_arms_and_fingerprints_of_its_hand_written_twin(kind, protocol):
    generated, twin = TWINS[kind]
    assert trials_of(generated, protocol, {}) == trials_of(twin, protocol, {})
    overrides = {"recipe.epochs": 2, "network.init": "orthogonal"}
    assert trials_of(generated, protocol, overrides) == trials_of(twin, protocol, overrides)


@pytest.mark.parametrize("kind", TWINS)
def test_it_has_the_contract_and_the_claims_of_its_hand_written_twin(kind):
    """The verdicts follow: they are a function of claims, arms and results."""
    generated, twin = TWINS[kind]
    assert generated.claims == twin.claims
    assert generated.varies == twin.varies
    assert (generated.design.kind, twin.design) == (kind, None)
    pairs = [(contrast.over, contrast.arm) for contrast in generated.design.contrasts]
    assert pairs == [claim.contrasts[0] for claim in generated.claims[: len(pairs)]]


def test_its_own_claims_follow_the_generated_ones():
    own = Helps(arm="full", over="without dropout", endpoint="time")
    assert leave_one_out(claims=own).claims == (*leave_one_out().claims, own)
    assert replace(leave_one_out(claims=own), question="Why?").claims == leave_one_out(claims=own).claims
    errors = leave_one_out(endpoint="training_error").claims
    assert {claim.endpoint for claim in errors} == {"training_error"}


def test_a_single_component_needs_no_tuple():
    assert LeaveOneOut(question="Why?", full=FULL, components=NO_DECAY).arms[0].name == "without weight decay"


def test_the_steps_from_a_default_to_a_tuned_recipe_are_its_settings():
    tuned = {"recipe.learning_rate": 0.05, "network.head.dropout": 0.25, "recipe.momentum": 0.9}
    default = Arm("default", {"network": VGG_A, "recipe.momentum": 0.9})
    found = StepByStep(question="Why?", base=default, target=Arm("tuned", {"network": VGG_A, **tuned}))
    assert [arm.name for arm in found.all_arms] == ["default", "learning rate (step 1)", "tuned"]
    assert [contrast.component for contrast in found.design.contrasts] == ["learning rate", "dropout"]
    assert found.varies == ("recipe.learning_rate", "network.head.dropout")


@pytest.mark.parametrize(
    ("before", "after", "norms"), [("batch", "batch", ["batch"] * 2), ("lrn", "batch", ["lrn", "lrn", "batch"])]
)
def test_a_step_to_another_network_keeps_what_both_ends_set_below_it(before, after, norms):
    base = Arm("A", {"network": VGG_A, "network.norm": before})
    target = Arm("D", {"network": VGG_D, "network.norm": after})
    setups = StepByStep(question="Why?", base=base, target=target).setups(DEFAULT_SETUP)
    assert [setup.network.norm for setup in setups.values()] == norms
    assert [setup.network.stages for setup in setups.values()] == [VGG_A.stages, *[VGG_D.stages] * (len(norms) - 1)]


def test_an_argument_of_another_type_is_a_step():
    ends = [Arm(name, {"network": NET, "network.init_args.flag": flag}) for name, flag in (("one", 1), ("true", True))]
    steps = StepByStep(question="Why?", base=ends[0], target=ends[1]).design.contrasts
    assert [step.component for step in steps] == ["flag"]


def test_a_float_written_as_a_whole_number_is_no_step():
    ends = [Arm(str(rate), {"network": VGG_A, "recipe.learning_rate": rate}) for rate in (1, 1.0)]
    target = Arm("longer", {**ends[1].edits, "recipe.epochs": 3})
    steps = StepByStep(question="Why?", base=ends[0], target=target).design.contrasts
    assert [step.component for step in steps] == ["epochs"]


@pytest.mark.parametrize(
    ("path", "own", "product"),
    [
        ("recipe.weight_decay", 4e-4, 2e-4),
        ("recipe.epochs", 9, 4),  # rounded half to even, as Python does
        ("recipe.epochs", Times(4), 2 * DEFAULT_SETUP.recipe.epochs),
        ("recipe.epochs", None, DEFAULT_SETUP.recipe.epochs // 2),
    ],
)
def test_a_component_multiplies_the_value_of_its_arm(path, own, product):
    base = Arm("VGG", {"network": VGG_A} | ({} if own is None else {path: own}))
    found = add_one(Component("half", {path: Times(0.5)}), base=base)
    assert flatten_fields(found.arms[0].apply(DEFAULT_SETUP))[path] == product


def test_a_step_may_replace_the_whole_network():
    """Settings of the earlier network vanish with it; that is no second change of them."""
    found = ablations.load("vgg_to_resnet")
    assert found.varies == ("network",)
    assert [arm.name for arm in found.all_arms][-2:] == ["blocks with strides (step 4)", "residual network"]


TUNED = Arm("tuned", {"network": VGG_A, "recipe.augmentation": "shift-flip", "recipe.momentum": 0.8})

REFUSED = {
    "an unknown path": (
        lambda: leave_one_out(Component("decay", {"recipe.weight_decy": 0.0})),
        r"component 'decay': arm 'without decay', path 'recipe\.weight_decy': .*Did you mean 'weight_decay'\?",
    ),
    "a value that is not admitted": (
        lambda: add_one(Component("norm", {"network.norm": "layer"})),
        r"component 'norm': arm 'with norm', path 'network\.norm': .*'layer'",
    ),
    "a component that changes nothing": (
        lambda: leave_one_out(NO_DROPOUT, Component("decay", {"recipe.weight_decay": 5e-4})),
        r"component 'decay' changes nothing: 'full' has recipe\.weight_decay=0\.0005 already \(at 224 pixels\)\. "
        r"Leave it out, or set another value in 'full'\.",
    ),
    "one that changes nothing on some data": (
        lambda: add_one(
            Component("shifts", {"recipe.augmentation": ByData(digits="shift-flip", others="none")}),
            base=Arm("VGG", {"network": VGG_A, "recipe.augmentation": "shift-flip"}),
        ),
        r"component 'shifts' changes nothing: 'VGG' has .* already \(at 32 pixels, on digits\)",
    ),
    "a step that changes nothing": (
        lambda: step_by_step(BATCH_NORM, Component("again", {"network.norm": "batch"}), GELU),
        r"component 'again' changes nothing: 'batch norm \(step 1\)' has network\.norm=batch already",
    ),
    "a multiple of a value that depends on the resolution": (
        lambda: add_one(
            Component("longer", {"recipe.epochs": Times(2)}),
            base=Arm("VGG", {"network": VGG_A, "recipe.epochs": ByResolution(small=4, large=8)}),
        ),
        r"component 'longer': recipe\.epochs is multiplied \(Times.*\), but is .* in arm 'VGG'; expected the values",
    ),
    "a multiple in the target of what the base sets": (
        lambda: StepByStep(
            question="Why?",
            base=Arm("short", {"network": VGG_A, "recipe.epochs": 5}),
            target=Arm("long", {"network": VGG_A, "recipe.epochs": Times(2)}),
        ),
        r"target 'long' multiplies recipe\.epochs \(Times.*\), which base 'short' sets as well; expected the value",
    ),
    "two that change one setting": (
        lambda: add_one(BATCH_NORM, Component("group norm", {"network.norm": "group"})),
        r"components 'batch norm' and 'group norm' both change network\.norm: they are alternatives",
    ),
    "a step that undoes another": (
        lambda: step_by_step(Component("LRN", {"network.norm": "lrn"}), BATCH_NORM, GELU),
        r"steps 'LRN' and 'batch norm' both change network\.norm: the second replaces",
    ),
    "a target that sets what no step does": (
        lambda: step_by_step(Component("momentum", {"recipe.momentum": 0.8}), target=TUNED),
        r"the steps do not lead to target 'tuned': the target has a value of recipe\.augmentation, and the last step "
        r"has the protocol's\. Set it in both, or in neither",
    ),
    "a base that sets what the target leaves to the protocol": (
        lambda: StepByStep(
            question="Why?",
            base=Arm("base", {"network": VGG_A, "recipe.momentum": 0.9}),
            target=Arm("tuned", {"network": VGG_A, "recipe.learning_rate": 0.1}),
        ),
        r"the steps do not .*: the last step has a value of recipe\.momentum, and the target has the protocol's",
    ),
    "alternatives, one of them a value that some protocols have": (
        lambda: add_one(
            Component("flips", {"recipe.augmentation": "shift-flip"}), Component("no", {"recipe.augmentation": "none"})
        ),
        r"components 'flips' and 'no' both change recipe\.augmentation",
    ),
    "equal ends": (
        lambda: step_by_step(target=Arm("the same", BASE.edits)),
        r"base 'VGG' and target 'the same' are the same setup: there is no step between them",
    ),
    "steps that end elsewhere": (
        lambda: step_by_step(BATCH_NORM),
        r"the steps do not lead to target 'modern': after the last one network\.activation is relu, and in the target "
        r"gelu",
    ),
    "two of one name": (
        lambda: add_one(BATCH_NORM, replace(GELU, name="batch norm")),
        r"two of the components are named 'batch norm'; each needs a name of its own",
    ),
    "an arm's name twice": (
        lambda: step_by_step(target=replace(TARGET, name="VGG")),
        r"two arms are named 'VGG'",
    ),
    "no component": (lambda: add_one(components=()), r"`components` is \(\); expected a tuple of Component objects"),
    "an arm for a component": (lambda: add_one(BASE), r"`components` is .*; expected a tuple of Component objects"),
    "a component without edits": (lambda: Component("nothing", {}), r"component 'nothing' has no edits"),
    "a component of a number as name": (lambda: Component(3, {"network.norm": "batch"}), r"`name` is 3; expected text"),
    "a component of no edits": (lambda: Component("x", None), r"`edits` is None; expected a mapping .*component 'x'"),
    "a text for yes or no": (
        lambda: Component("x", {"network.norm": "batch"}, helps="no"),
        r"`helps` is 'no'; expected True or False, of component 'x'",
    ),
    "no arm to add to": (lambda: add_one(BATCH_NORM, base=None), r"`base` is None; expected an Arm"),
    "no claims": (lambda: add_one(BATCH_NORM, claims=None), r"`claims` is None; expected a tuple of Claim objects"),
    "a component without a name": (lambda: Component(" ", {"network.norm": "batch"}), r"a component needs a name"),
    "another endpoint": (
        lambda: add_one(endpoint="memory"),
        r"`endpoint` is 'memory'; expected one of 'test_error', 'balanced_error', 'training_error'",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_it_refuses_in_one_line(case):
    make, message = REFUSED[case]
    with pytest.raises((InvalidAblation, InvalidValue, UnknownPath)) as caught:
        make()
    assert re.match(message, str(caught.value)), str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_examples_of_the_docs_are_ablations(tmp_path):
    """They are read as a user's files are."""
    examples = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs/howto/designs.md").read_text(encoding="utf-8"), re.DOTALL
    )
    kinds = []
    for number, text in enumerate(examples):
        file = tmp_path / f"my_design_{number}.py"
        file.write_text(text, encoding="utf-8")
        kinds.append(ablations.load(str(file)).design.kind)
    assert kinds == ["leave-one-out", "step-by-step"]


def test_a_component_with_the_value_of_some_protocols_is_judged_by_the_study():
    flips = add_one(Component("flips", {"recipe.augmentation": "shift-flip"}))
    setups = flips.setups(protocols.load("digits").setup)
    assert [setup.recipe.augmentation for setup in setups.values()] == ["shift", "shift-flip"]
    with pytest.raises(
        InvalidAblation, match=r"same setup under this protocol, which sets recipe\.augmentation to the same value"
    ):
        flips.setups(DEFAULT_SETUP)


def test_a_user_sees_one_line(tmp_path):
    file = tmp_path / "my_broken_design.py"
    file.write_text(BROKEN, encoding="utf-8")
    with pytest.raises(
        InvalidAblation, match=r"^component 'dropout' changes nothing: 'VGG' has network\.head\.dropout=0\.5"
    ):
        ablations.load(str(file))
