"""Every object that a user holds is one short line at a prompt, and nothing that is stored depends on that line."""

from dataclasses import replace

import pytest

import ablations
import studies
from ablations import (
    AddOne,
    AllOf,
    Arm,
    ByData,
    ByResolution,
    Caveat,
    Component,
    DoesNotHelp,
    FallsWith,
    Helps,
    HelpsBy,
    LeaveOneOut,
    Metric,
    Placebo,
    Reverses,
    SaturatesAt,
    StepByStep,
    Times,
)
from ablations._arms import DIGITS_SETUP
from lightning_modules import spec
from lightning_modules.catalogue import NETWORKS
from lightning_modules.spec import Custom, Data, Elsewhere, ForeignData, WarmStart
from studies import protocols


def _collect_objects() -> dict[str, object]:
    """Collect an object of every kind that a user may hold, by a name for the test."""
    setup = DIGITS_SETUP
    warm_start = WarmStart(
        network=NETWORKS["vgg-a"],
        layers=("stage1.conv1", "stage2.conv1"),
        recipe={"learning_rate": 0.1},
        on=Elsewhere(data=Data(source="digits", train_fraction=0.5), classes=10),
    )
    objects: dict[str, object] = {f"network {name}": network for name, network in NETWORKS.items()}
    objects |= {f"protocol {name}": protocols.load(name) for name in protocols.names()}
    for name in ablations.names():
        ablation = ablations.load(name)
        objects |= {f"ablation {name}": ablation, f"study {name}": studies.declare(name, "digits", 3)}
        objects |= {f"{name}, arm {arm.name}": arm for arm in ablation.all_arms}
        objects |= {f"{name}, claim {number}": claim for number, claim in enumerate(ablation.claims)}
        named = {"factorial": ablation.factorial, "design": ablation.design, "reference": ablation.reference}
        objects |= {f"{name}, {kind}": part for kind, part in named.items() if part is not None}
        if isinstance(ablation.replications, tuple):
            objects |= {f"{name}, replication {number}": part for number, part in enumerate(ablation.replications)}
    ensemble = spec.Test(mode="dense", sides=(1.0, 8 / 7), members=(NETWORKS["vgg-b"],))
    lrn = Component("lrn", {"network": NETWORKS["vgg-a"], "recipe.learning_rate": 0.3}, source="a paper " * 40)
    batch_norm = Component("batch norm", {"network.norm": "batch"})
    dropout = Component("dropout", {"network.head.dropout": 0.0})
    helps = Helps(arm="B" * 60, over="A" * 60)
    saturates = SaturatesAt(arm="b", order=("a", "b", "c"), caveat=Caveat("At {resolution} px: " * 20, lambda _: True))
    further = (
        Custom(class_path="a." * 80 + "Net", init_args={f"argument{n}": n for n in range(40)}),
        NETWORKS["vgg-c"].stages[2],
        NETWORKS["vgg-c"].head,
        NETWORKS["resnet-20"].stages[0],
        setup,
        replace(
            setup, start=warm_start, test=spec.Test(mode="dense", sides=(1.0, 8 / 7), members=(NETWORKS["vgg-b"],))
        ),
        *(setup.recipe, setup.scale, setup.data, setup.test, warm_start, warm_start.on, ensemble),
        replace(setup.recipe, weight_decay=0.0, clip_norm=1.0, microbatch=16, remainder="drop", precision="bfloat16"),
        ForeignData(class_path="my_data.Digits", init_args={"folder": "x" * 200}),
        *(helps, DoesNotHelp(arm="b", over="a"), HelpsBy(arm="b", over="a", by=1.0, within=0.5)),
        *(FallsWith(order=tuple("abcdefghijk")), saturates, saturates.caveat),
        Reverses(worse=("a", "b"), better=("c", "d")),
        AllOf(parts=(helps, DoesNotHelp(arm="c", over="d"))),
        Metric(name="accuracy", higher_is_better=True),
        *(lrn, Placebo(), Arm("a b", {"recipe.epochs": ByResolution(small=1, large=2)})),
        *(ByResolution(small=NETWORKS["vgg-a"], large=NETWORKS["vgg-b"]), ByData(digits=1, others=2), Times(2.0)),
        LeaveOneOut(question="?", full=Arm("full", {}), components=(batch_norm, dropout)),
        AddOne(question="?", base=Arm("base", {}), components=(batch_norm, dropout)),
        StepByStep(question="?", base=Arm("base", {}), target=Arm("t", batch_norm.edits | dropout.edits)),
        studies.TuningBudget(trials=16),
        studies.Resources(cpus_per_trial=1, max_concurrent=2),
        studies.declare("depth", "digits", 1).trials()[0],
    )
    return objects | {f"{type(value).__name__} {number}": value for number, value in enumerate(further)}


OBJECTS = _collect_objects()


@pytest.mark.parametrize("name", OBJECTS)
def test_an_object_is_one_short_line_that_names_what_it_is(name):
    value = OBJECTS[name]
    line = repr(value)
    assert line.removeprefix("<").startswith(type(value).__name__)
    assert "\n" not in line
    assert len(line) <= 100


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("network vgg-a", "<Vgg of 11 layers: 64 ×1, 128 ×1, 256 ×2, 512 ×2, 512 ×2>"),
        (
            "network vgg-c",
            "<Vgg of 16 layers: 64 ×2, 128 ×2, 256 ×3, 512 ×3, 512 ×3; 3×3 and 1×1>",
        ),
        (
            "network resnet-50",
            "<ResNet of 50 layers: bottleneck 64 ×3, 128 ×4, 256 ×6, 512 ×3; projection shortcuts; 7x7 stem>",
        ),
        (
            "network googlenet",
            "<Custom torchvision.models.googlenet(aux_logits=True, init_weights=True, num_classes=$classes)>",
        ),
        (
            "network resnet-50-v1",
            "<ResNet of 50 layers: bottleneck 64 ×3, 128 ×4, 256 ×6, 512 ×3; halve_by 1x1; projection shortcuts…>",
        ),
        (
            "weight_decay, arm no decay",
            "<Arm no decay: recipe.weight_decay=0.0, network=Vgg of 11 layers: 64 ×1, 128 ×1, 256 ×2, 512 ×2, 5…>",
        ),
        ("protocol digits", "<Protocol digits: 50 epochs, 8 seeds, 32 px, smallest effect 0.5 points>"),
        ("depth, claim 0", "<FallsWith claim: Test error falls from A to B to D to E.>"),
        ("depth, arm D", "<Arm D: network=Vgg of 16 layers: 64 ×2, 128 ×2, 256 ×3, 512 ×3, 512 ×3>"),
    ],
)
def test_a_line_tells_what_distinguishes_an_object(name, line):
    assert repr(OBJECTS[name]) == line


def test_nothing_that_is_registered_or_hashed_depends_on_how_an_object_is_shown(monkeypatch):
    def register() -> list[str]:
        digests = []
        for name in ablations.names():
            study = studies.declare(name, "digits", 2)
            digests += [study.conditions_digest("data"), *(trial.fingerprint for trial in study.trials())]
        return digests

    before = register()
    for cls in {type(value) for value in OBJECTS.values()}:
        monkeypatch.setattr(cls, "__repr__", lambda self: f"{id(self)}")
    assert register() == before
