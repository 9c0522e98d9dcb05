"""Synthetic study records: made-up numbers, for rendering only. No figure in here was ever measured."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from ablations import (
    Claim,
    ComponentContrast,
    ComponentDesign,
    DesignKind,
    Difference,
    DoesNotHelp,
    Factor,
    Factorial,
    FallsWith,
    Helps,
    Reference,
    Reverses,
)
from studies.design.tuning import Range, TuningBudget
from studies.records.registration import Registration
from studies.records.results import Result
from studies.records.study_record import RecordedCandidate, RecordedTrial, RecordedTuning, StudyRecord, StudyStart

ARMS = ("A", "B", "D", "E")
ERRORS = {"A": 9.4, "B": 8.2, "D": 7.1, "E": 7.3}
EPOCHS = 30
TEST_EXAMPLES = 360
LAYERS = {"A": 8, "B": 10, "D": 13, "E": 16}
Curve = npt.NDArray[np.float64]
HOSTILE = ('<script>alert("x")</script>', "=SUM(A1:A9)&|_{}~^\\", "@50%_of #1 $x$", "B | `code` *bold*")


def changes(arm: str) -> tuple[Difference, ...]:
    """The convolutions that an arm adds to A."""
    added = {"A": "", "B": "0.1 1.1", "D": "0.1 1.1 2.2 3.2 4.2", "E": "0.1 1.1 2.2 2.3 3.2 3.3 4.2 4.3"}.get(
        arm, "0.1"
    )
    places = [f"network.stages.{place.replace('.', '.convs.')}" for place in added.split()]
    return tuple(
        difference
        for place in places
        for difference in (
            Difference(path=f"{place}.kind", before=None, after="Conv"),
            Difference(path=f"{place}.kernel", before=None, after=3),
        )
    )


def built(arm: str) -> tuple[Difference, ...]:
    """The modules that those convolutions are, as PyTorch prints them."""
    return tuple(
        difference
        for change in changes(arm)
        if change.path.endswith(".kind")
        for stage, conv in [[int(number) for number in re.findall(r"\d+", change.path)]]
        for width in [8 * 2 ** min(stage, 3)]
        for difference in (
            Difference(
                path=f"stage{stage + 1}.conv{conv + 1}",
                before=None,
                after=f"Conv2d({width}, {width}, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))",
            ),
            Difference(path=f"stage{stage + 1}.relu{conv + 1}", before=None, after="ReLU(inplace=True)"),
        )
    )


def properties(arms: tuple[str, ...]) -> dict[str, dict[str, int]]:
    """Measured properties, growing from arm to arm."""
    return {
        arm: {
            "weight_layers": 11 + 3 * index,
            "parameters": 520_000 + 91_000 * index,
            "conv_parameters": 300_000 + 91_000 * index,
            "multiply_adds": 12_400_000 + 9_100_000 * index,
            "receptive_field": 150 + 44 * index,
            "nonlinearities": 10 + 3 * index,
        }
        for index, arm in enumerate(arms)
    }


def registration(arms: tuple[str, ...] = ARMS, seeds: int = 5, **fields: object) -> Registration:
    """A registration over the arms; further fields replace the made-up ones."""
    standard = Registration(
        study="depth",
        question="Does the error of a VGG network fall as it grows from 11 to 19 weight layers?",
        protocol="digits",
        protocol_note="Handwritten digits at 32 pixels, narrow networks: minutes on two cores.",
        overrides={"recipe.epochs": EPOCHS},
        arms=arms,
        varies=("network.stages",),
        forced={"network.head.widths": "the last map is smaller, so the head must follow it"},
        changes={arm: changes(arm) for arm in arms},
        held={
            "network.norm": "none",
            "network.init": "he",
            "network.head.widths.0": 256,
            "network.head.dropout": 0.5,
            "scale.resolution": 32,
            "scale.channels": 1,
            "scale.classes": 10,
            "scale.width": 0.125,
            "recipe.epochs": EPOCHS,
            "recipe.batch_size": 64,
            "recipe.learning_rate": 0.05,
            "recipe.momentum": 0.9,
            "recipe.weight_decay": 0.0005,
            "recipe.schedule": "cosine",
            "recipe.augmentation": "shift",
            "recipe.precision": "float32",
            "data.source": "digits",
            "data.validation_fraction": 0.1,
        },
        properties=properties(arms),
        built={arm: built(arm) for arm in arms[1:]},
        property_studied="weight_layers",
        factorial=None,
        donors={},
        donor_epochs={},
        unknowns={},
        claims=claims(arms),
        smallest_effect=0.5,
        reference=Reference(
            source="Simonyan & Zisserman 2015, Table 3 (S = Q = 256)",
            quantity="top-1 error on ILSVRC-2012 validation, percent",
            values=dict(zip(arms, (29.6, 28.7, 27.0, 27.3), strict=False)),
            caveat="one run per network; B, D and E start from A's weights",
        ),
        seeds=tuple(range(seeds)),
        data={
            "name": "digits",
            "form": "scikit-learn",
            "classes": 10,
            "train": 1293,
            "validation": 144,
            "test": TEST_EXAMPLES,
            "digest": "sha256:5d41402abc4b2a76b9719d911017c592",
        },
    )
    return replace(standard, **fields)


def claims(arms: tuple[str, ...]) -> tuple[Claim, ...]:
    """A claim of each of three kinds, as far as the arms go."""
    if len(arms) < 2:
        return ()
    first, second, *_ = arms
    chosen: list[Claim] = [FallsWith(order=arms, source="Simonyan & Zisserman 2015, Sect. 4.1")]
    chosen.append(Helps(arm=second, over=first, source="Simonyan & Zisserman 2015, Sect. 4.1"))
    if len(arms) > 3:
        chosen.append(DoesNotHelp(arm=arms[3], over=arms[2]))
    return tuple(chosen)


def result(arm: str, seed: int, error: float, status: str = "finished", **fields: object) -> Result:
    """A result whose curves fall to its error; a non-finite one stops early, a failed one leaves a traceback."""
    random = np.random.default_rng([seed, sum(map(ord, arm))])
    epochs = {"finished": EPOCHS, "at chance": EPOCHS, "non-finite": 6, "failed": 3}[status]
    time = np.arange(1, epochs + 1)
    decay = np.exp(-time / 5.0)
    noise = random.normal(0, 1, epochs) * (0.4 + 3 * decay)
    validation = np.clip(error + 75 * decay + noise, 0, 100)
    train = np.clip(0.35 * error + 80 * decay + 0.4 * noise, 0, 100)
    if status in ("at chance", "non-finite"):
        validation, train = np.full(epochs, 90.0) + noise, np.full(epochs, 90.0) - noise
    standard = Result(
        fingerprint=f"{arm}-{seed}",
        digests={"data": "da1a", "code": "c0de5", "platform": "cpu-2"},
        status=status,  # type: ignore[arg-type]
        metrics={
            "test_error": error,
            "validation_error": error + 0.3,
            "train_error": 0.3 * error,
            "test_loss": error / 30,
            "validation_loss": error / 29,
            "train_loss": error / 90,
        }
        if status == "finished"
        else {"train_error": 89.5, "train_constant_error": 90.0}
        if status == "at chance"
        else {},
        curves={
            "train_loss": tuple(train / 40),
            "validation_loss": tuple(validation / 30),
            "train_error": tuple(train),
            "validation_error": tuple(validation),
            "learning_rate": tuple(0.05 * np.cos(time / epochs * 1.5)),
            "gradient_norm": tuple(2.0 * decay + 0.3 + 0.02 * noise**2),
            "seconds": (1.4,) * epochs,
            **gradients(arm, decay, noise),
        },
        times=tuple(1.8e9 + 1.4 * time),
        cost={
            "train_seconds": 38.0 + 9 * sum(map(ord, arm)) % 40 + seed,
            "images_per_second": 1200.0 - 3 * seed,
            "peak_memory_bytes": 3.1e8 + 1e6 * sum(map(ord, arm)),
        },
        environment={"torch": "2.13.0", "python": "3.11.9", "device": "cpu", "threads": 1},
        evidence={
            "order": f"order-{seed}",
            "augmentation": f"augmentation-{seed}",
            "split": f"split-{seed}",
            "steps": 630,
        }
        | {f"weights.layer{layer}": f"weights-{seed}-{layer}" for layer in range(LAYERS.get(arm, 8))},
        predictions=predicted(seed, error, random) if status == "finished" else None,
        error="" if status != "failed" else 'Traceback (most recent call last):\n  File "x.py"\nMemoryError: 12 GiB\n',
    )
    return replace(standard, **fields)


def gradients(arm: str, decay: Curve, noise: Curve) -> dict[str, tuple[float, ...]]:
    """Norms per layer, the smaller the more layers lie between a layer and the output."""
    depth = LAYERS.get(arm, 8)
    layers = [f"stage{1 + place // 3}.conv{1 + place % 3}" for place in range(depth)] + ["head.fc1", "head.fc2"]
    return {
        f"gradient_norm/{layer}": tuple((0.05 + decay) * 0.85 ** (len(layers) - place) * (1 + 0.05 * np.abs(noise)))
        for place, layer in enumerate(layers)
    }


def labels() -> npt.NDArray[np.uint16]:
    """The classes of the test examples."""
    return (np.arange(TEST_EXAMPLES) % 10).astype(np.uint16)


def predicted(seed: int, error: float, random: np.random.Generator) -> npt.NDArray[np.uint16] | None:
    """Predictions that err as often as told, more often on the examples that come first."""
    if not np.isfinite(error):
        return None
    made = labels()
    hard = np.exp(-np.arange(TEST_EXAMPLES) / 60)
    wrong = random.choice(TEST_EXAMPLES, round(TEST_EXAMPLES * error / 100), replace=False, p=hard / hard.sum())
    made[wrong] = (made[wrong] + 1) % 10
    return made


def trial(arm: str, seed: int, error: float, state: str = "finished", **fields: object) -> RecordedTrial:
    """A trial in its place; a running one has no result."""
    return RecordedTrial(
        arm=arm,
        seed=seed,
        run_id=f"run-{arm}-{seed}",
        state=state,  # type: ignore[arg-type]
        result=None if state in ("running", "cancelled") else result(arm, seed, error, state, **fields),
    )


def record(
    arms: tuple[str, ...] = ARMS,
    seeds: int = 5,
    states: Mapping[tuple[str, int], str] | None = None,
    trials: tuple[RecordedTrial, ...] | None = None,
    **fields: object,
) -> StudyRecord:
    """A study in which every trial finished, save those whose state is given."""
    states = states or {}
    random = np.random.default_rng(7)
    shared = random.normal(0, 0.35, max(seeds, 1))
    means = {arm: ERRORS.get(arm, max(9.0 - 0.7 * index, 2.0)) for index, arm in enumerate(arms)}
    made = tuple(
        trial(arm, seed, float(means[arm] + shared[seed] + random.normal(0, 0.28)), states.get((arm, seed), "finished"))
        for arm in arms
        for seed in range(seeds)
        if states.get((arm, seed)) != "absent"
    )
    return StudyRecord(
        registration=registration(arms, seeds, **fields),
        trials=made if trials is None else trials,
        starts=(
            StudyStart(
                time="2026-03-01T10:12:00+00:00",
                command="ablate run depth --protocol digits --seeds 5",
                revision="1f3c9e2ab47d",
                clean=True,
                versions={"torch": "2.13.0", "mlflow": "3.10.1", "ray": "2.52.0"},
                hardware="2 CPU cores, 8 GiB",
                wall_seconds=2_711.0,
                seeds=tuple(range(seeds)),
            ),
        ),
        labels=labels(),
        run_id="3b5d0c",
        experiment_id="4",
        tracking_uri="sqlite:///mlflow.db",
    )


# -- two factors crossed -----------------------------------------------------------------------------------------------

PLAIN, DEEP_PLAIN, RESIDUAL, DEEP_RESIDUAL = CROSSED = (
    "plain shallow", "plain deep", "residual shallow", "residual deep",
)  # fmt: skip
CROSSED_ERRORS = dict(zip(CROSSED, (8.4, 9.6, 8.2, 7.1), strict=True))
FACTORIAL = Factorial(
    rows=Factor(name="shortcuts", levels=("plain", "residual")),
    columns=Factor(name="depth", levels=("shallow", "deep")),
    cells=((PLAIN, DEEP_PLAIN), (RESIDUAL, DEEP_RESIDUAL)),
)
CAVEAT = "option A pads with zeros, which the plain network does not"


def crossed(seeds: int = 4, states: Mapping[tuple[str, int], str] | None = None, **fields: object) -> StudyRecord:
    """Depth crossed with shortcuts: depth hurts the plain network and helps the residual one."""
    random = np.random.default_rng(11)
    shared = random.normal(0, 0.3, seeds)
    trials = tuple(
        with_inference(trial(arm, seed, float(mean + shared[seed] + random.normal(0, 0.2)), state))
        for arm, mean in CROSSED_ERRORS.items()
        for seed in range(seeds)
        if (state := (states or {}).get((arm, seed), "finished")) != "absent"
    )
    standard: dict[str, object] = {
        "study": "degradation",
        "question": "Do more layers make a plain network worse, and a residual one better?",
        "forced": {},
        "varies": ("network.stages", "network.shortcut"),
        "factorial": FACTORIAL,
        "property_studied": None,
        "properties": {arm: block_properties(deep="deep" in arm) for arm in CROSSED},
        "changes": {arm: block_changes(arm) for arm in CROSSED[1:]},
        "built": {arm: block_parts(arm) for arm in CROSSED[1:]},
        "claims": (
            Reverses(
                worse=(PLAIN, DEEP_PLAIN), better=(RESIDUAL, DEEP_RESIDUAL), caveat=CAVEAT, source="He et al. 2016"
            ),
            Helps(arm=PLAIN, over=DEEP_PLAIN, endpoint="training_error", source="He et al. 2016, Fig. 1"),
        ),
        "reference": None,
    }
    return record(CROSSED, seeds, trials=trials, **(standard | fields))


def block_properties(*, deep: bool) -> dict[str, int]:
    """Of a plain network and of a residual one alike: a shortcut costs nothing."""
    return {
        "weight_layers": 32 if deep else 20,
        "parameters": 464_000 if deep else 270_000,
        "conv_parameters": 463_000 if deep else 269_000,
        "multiply_adds": 69_000_000 if deep else 40_600_000,
        "receptive_field": 197 if deep else 113,
        "nonlinearities": 31 if deep else 19,
    }


def block_changes(arm: str) -> tuple[Difference, ...]:
    """What an arm declares: further blocks, shortcuts, or both."""
    blocks = [Difference(path=f"network.stages.{stage}.count", before=3, after=5) for stage in range(3)]
    shortcut = [Difference(path="network.shortcut", before="none", after="identity")]
    return (*(blocks if "deep" in arm else ()), *(shortcut if "residual" in arm else ()))


def block_parts(arm: str) -> tuple[Difference, ...]:
    """The modules that those are."""
    parts: list[Difference] = []
    for stage, width in enumerate((16, 32, 64), 1):
        for block in range(1, 6 if "deep" in arm else 4):
            place = f"stage{stage}.block{block}"
            if block > 3:
                conv = f"Conv2d({width}, {width}, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), bias=False)"
                norm = f"BatchNorm2d({width}, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True)"
                made = {"conv": conv, "norm": norm}
                for number in (1, 2):
                    parts += [
                        Difference(path=f"{place}.{name}{number}", before=None, after=made[name]) for name in made
                    ]
                parts += [
                    Difference(path=f"{place}.{name}", before=None, after="ReLU(inplace=True)")
                    for name in ("relu1", "relu")
                ]
            if "residual" in arm:
                kind = f"ZeroPadding(new={width // 2}, stride=2)" if (block, stage > 1) == (1, True) else "Identity()"
                parts.append(Difference(path=f"{place}.shortcut", before=None, after=kind))
    return tuple(parts)


def with_inference(made: RecordedTrial) -> RecordedTrial:
    """A trial whose inference was measured as well."""
    if made.result is None:
        return made
    speed = {"inference_images_per_second": 5200.0 - 7 * made.seed, "inference_peak_memory_bytes": 4.2e7}
    return replace(made, result=replace(made.result, cost={**made.result.cost, **speed} if made.result.cost else {}))


# -- a warm start, and a foreign network -------------------------------------------------------------------------------

DONOR = "donor of warm"
STARTED = ("cold", "warm", "foreign")
STARTED_ERRORS = {"cold": 8.3, "warm": 7.5, "foreign": 8.0, DONOR: 9.1}
COPIED = ("layer0", "layer1", "layer2")


def started(seeds: int = 3, states: Mapping[tuple[str, int], str] | None = None, **fields: object) -> StudyRecord:
    """A network from scratch, the same one from a donor's first layers, and somebody's own module."""
    random = np.random.default_rng(5)
    shared = random.normal(0, 0.3, seeds)
    trials = tuple(
        _started(with_inference(trial(arm, seed, float(mean + shared[seed] + random.normal(0, 0.2)), state)))
        for arm, mean in STARTED_ERRORS.items()
        for seed in range(seeds)
        if (state := (states or {}).get((arm, seed), "finished")) != "absent"
    )
    known = properties(("cold",))["cold"]
    foreign = {name: known[name] for name in known if name not in ("receptive_field", "nonlinearities")}
    standard: dict[str, object] = {
        "study": "warm-start",
        "question": "Does it help to start from the trained first layers of a shallower network?",
        "forced": {},
        "varies": ("start", "network"),
        "property_studied": None,
        "properties": {"cold": known, "warm": known, "foreign": foreign},
        "changes": {"warm": start_changes(), "foreign": foreign_changes()},
        "built": {
            "warm": (),
            "foreign": (
                Difference(path="features.0", before=None, after="Conv2d(1, 8, kernel_size=(5, 5), stride=(2, 2))"),
                Difference(path="mixer", before=None, after="Mixer(heads=2) with table 4×8"),
            ),
        },
        "donors": {"warm": DONOR},
        "donor_epochs": {"warm": len(range(1, EPOCHS, 4))},
        "unknowns": {"foreign": ("Its receptive field cannot be measured: it calls functions on maps.",)},
        "claims": (
            Helps(arm="warm", over="cold", caveat="the donor's epochs come on top of the arm's own"),
            Helps(arm="cold", over="warm", endpoint="time"),
            Helps(arm="foreign", over="cold"),
        ),
        "reference": None,
    }
    return record(STARTED, seeds, trials=trials, **(standard | fields))


def start_changes() -> tuple[Difference, ...]:
    """A warm start as leaves: the donor's network and the layers that are copied."""
    added = {
        "start.network.kind": "Vgg",
        **{f"start.network.stages.{stage}.width": 8 * 2**stage for stage in range(3)},
        "start.network.norm": "none",
        **{f"start.layers.{place}": layer for place, layer in enumerate(COPIED)},
    }
    return (
        Difference(path="start.kind", before="Scratch", after="WarmStart"),
        *(Difference(path=path, before=None, after=leaf) for path, leaf in added.items()),
    )


def foreign_changes() -> tuple[Difference, ...]:
    """A custom network in the place of a VGG one."""
    return (
        Difference(path="network.kind", before="Vgg", after="Custom"),
        Difference(path="network.norm", before="none", after=None),
        Difference(path="network.class_path", before=None, after="my_networks.Mixed"),
        Difference(path="network.init_args.classes", before=None, after="$classes"),
    )


def _started(made: RecordedTrial) -> RecordedTrial:
    """What a trial that takes over a donor's layers, or is drawn by a foreign module, logs of its weights."""
    if made.result is None or made.arm not in ("warm", "foreign"):
        return made
    evidence = dict(made.result.evidence)
    if made.arm == "warm":
        evidence |= {"donor": f"{DONOR}-{made.seed}", "copied": ",".join(COPIED)}
    evidence |= {f"weights.{layer}": f"{made.arm}-{made.seed}-{layer}" for layer in COPIED}
    return replace(made, result=replace(made.result, evidence=evidence))


# -- recipes tuned arm by arm ------------------------------------------------------------------------------------------

RATE, DECAY = "recipe.learning_rate", "recipe.weight_decay"
SPACE = (Range(path=RATE, low=0.01, high=0.25), Range(path=DECAY, low=5e-5, high=5e-3))


def tuned(seeds: int = 5, tuning: TuningBudget | None = None, gain: float = 3.0, **fields: object) -> StudyRecord:
    """Two arms, A and B, tuned alike; tuning takes so many points off the error of A, and none off that of B."""
    tuning = tuning or TuningBudget(trials=8, space=SPACE)
    shared = record(("A", "B"), seeds, tuning=tuning, claims=(Helps(arm="B", over="A"),), **fields)
    candidates = tuple(
        fit for place, arm in enumerate(("A", "B")) for fit in candidates_of(arm, tuning, np.random.default_rng(place))
    )
    best = {arm: min(_last_rung(candidates, arm, tuning), key=lambda fit: fit.validation_error) for arm in ("A", "B")}
    trials = tuple(
        replace(
            trial(each.arm, each.seed, each.result.metrics["test_error"] - (gain if each.arm == "A" else 0)),
            run_id=f"tuned-{each.run_id}",
            recipe="tuned",
        )
        for each in shared.trials
        if each.result
    )
    made = RecordedTuning(
        candidates=candidates,
        best_values={arm: {path: float(fit.values[path]) for path in tuning.paths} for arm, fit in best.items()},
        best_candidates={arm: fit.number for arm, fit in best.items()},
        importance={arm: {RATE: 0.8, DECAY: 0.2} for arm in best},
        trials=trials,
    )
    return replace(shared, tuning=made)


def candidates_of(arm: str, tuning: TuningBudget, random: np.random.Generator) -> Iterator[RecordedCandidate]:
    """Every fit of an arm's search, rung by rung."""
    values = {
        number: {RATE: f"{0.05 * 1.3 ** (number * (-1) ** number):.4g}", DECAY: "0.0005"}
        for number in range(tuning.trials)
    }
    errors = {number: 9 + 0.5 * number + random.normal(0, 0.3) for number in values}
    for rung, planned in enumerate(tuning.rung_schedule):
        for number in sorted(errors, key=errors.__getitem__)[: planned.num_candidates]:
            for seed in tuning.seeds:
                yield RecordedCandidate(
                    arm=arm, number=number, rung=rung, seed=seed, epochs=planned.epochs_per_candidate(EPOCHS),
                    epochs_trained=planned.epochs_per_candidate(EPOCHS), state="finished",
                    validation_error=errors[number], validation_loss=0.3, seconds=20.0,
                    values=values[number], run_id=f"{arm}-{number}-{rung}-{seed}",
                )  # fmt: skip


def _last_rung(candidates: tuple[RecordedCandidate, ...], arm: str, tuning: TuningBudget) -> list[RecordedCandidate]:
    return [fit for fit in candidates if fit.arm == arm and fit.rung == len(tuning.rung_schedule) - 1]


# -- generated designs -------------------------------------------------------------------------------------------------

STEPS = ("batch norm", "no dropout", "residual sums")
STEP_ARMS = ("VGG-D", "batch norm (step 1)", "no dropout (step 2)", "residual network")
STEP_ERRORS = dict(zip(STEP_ARMS, (9.4, 7.1, 7.6, 6.2), strict=True))
LEFT_OUT = ("momentum", "weight decay", "dropout")
LEFT_OUT_ERRORS = dict(zip(("full", *(f"without {name}" for name in LEFT_OUT)), (7.0, 7.4, 7.1, 8.6), strict=True))


def component_design(kind: DesignKind, arms: tuple[str, ...], names: tuple[str, ...]) -> ComponentDesign:
    """A design of arms in their order, the baseline first."""
    if kind == "step-by-step":
        pairs = list(pairwise(arms))
    elif kind == "leave-one-out":
        pairs = [(arm, arms[0]) for arm in arms[1:]]
    else:
        pairs = [(arms[0], arm) for arm in arms[1:]]
    contrasts = [
        ComponentContrast(component=name, over=over, arm=arm) for name, (over, arm) in zip(names, pairs, strict=True)
    ]
    return ComponentDesign(kind=kind, endpoint="test_error", contrasts=tuple(contrasts))


def designed(
    kind: DesignKind = "step-by-step", seeds: int = 5, states: Mapping[tuple[str, int], str] | None = None
) -> StudyRecord:
    """A study of a generated design: steps toward a residual network, or a recipe without each of its parts."""
    errors, names = (STEP_ERRORS, STEPS) if kind == "step-by-step" else (LEFT_OUT_ERRORS, LEFT_OUT)
    arms = tuple(errors)
    random = np.random.default_rng(5)
    shared = random.normal(0, 0.3, seeds)
    trials = tuple(
        trial(
            arm, seed, float(mean + shared[seed] + random.normal(0, 0.2)), (states or {}).get((arm, seed), "finished")
        )
        for arm, mean in errors.items()
        for seed in range(seeds)
    )
    design = component_design(kind, arms, names)
    changed = {
        arm: tuple(
            Difference(path=f"recipe.part_{number}", before="yes", after="no")
            for number in (range(1, index + 1) if kind == "step-by-step" else (index,))
        )
        for index, arm in enumerate(arms)
        if index
    }
    return record(
        arms,
        seeds,
        trials=trials,
        study="vgg_to_resnet",
        question="What does each step contribute?",
        forced={},
        varies=("recipe",),
        property_studied=None,
        properties=dict.fromkeys(arms, block_properties(deep=False)),
        changes=changed,
        built={},
        claims=tuple(Helps(arm=contrast.arm, over=contrast.over) for contrast in design.contrasts),
        reference=None,
        design=design,
    )
