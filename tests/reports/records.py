"""Synthetic study records: made-up numbers, for rendering only. No figure in here was ever measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ablations import Claim, Difference, DoesNotHelp, FallsWith, Helps, Reference
from studies.records import Registration, Start, StudyRecord, TrialRecord
from studies.results import Result

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
    """A result whose curves fall to its error; a diverged one stops early, a failed one leaves a traceback."""
    random = np.random.default_rng([seed, sum(map(ord, arm))])
    epochs = {"finished": EPOCHS, "diverged": 6, "failed": 3}[status]
    time = np.arange(1, epochs + 1)
    decay = np.exp(-time / 5.0)
    noise = random.normal(0, 1, epochs) * (0.4 + 3 * decay)
    validation = np.clip(error + 75 * decay + noise, 0, 100)
    train = np.clip(0.35 * error + 80 * decay + 0.4 * noise, 0, 100)
    if status == "diverged":
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


def trial(arm: str, seed: int, error: float, state: str = "finished", **fields: object) -> TrialRecord:
    """A trial in its place; a running one has no result."""
    return TrialRecord(
        arm=arm,
        seed=seed,
        run_id=f"run-{arm}-{seed}",
        state=state,  # type: ignore[arg-type]
        result=None if state == "running" else result(arm, seed, error, state, **fields),
    )


def record(
    arms: tuple[str, ...] = ARMS,
    seeds: int = 5,
    states: Mapping[tuple[str, int], str] | None = None,
    trials: tuple[TrialRecord, ...] | None = None,
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
            Start(
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
