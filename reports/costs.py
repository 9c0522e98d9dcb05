"""What was built and what it cost: the table of properties and means, and the trials that arms start from."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ablations import PROPERTIES
from reports.arms import ArmRow
from reports.comparison import Comparison
from reports.conduct import failures
from reports.endpoints import cost, metric
from reports.figures import places
from reports.numbers import (
    MISSING,
    byte_unit,
    fixed,
    listed,
    metric_unit,
    plural,
    shared_decimals,
    time_unit,
    whole,
)
from reports.sections import FOLDED_FROM, Cell, Column, Table, text


def networks_table(comparison: Comparison) -> Table:
    """What was built, as measured on the networks."""
    arms = comparison.arms
    of_an_image = "the whole test of one image" if any(arm.tests for arm in arms) else "one forward pass of one image"
    notes = [f"Multiply-adds: {of_an_image}. Receptive field: of the last feature map before the head."]
    unknown = [arm.name for arm in arms if any(name not in arm.properties for name in PROPERTIES)]
    if unknown:
        notes.append(f"{MISSING}: not known of the network of {listed(unknown)}.")
    columns = [
        _plain(arms, "Weight layers", "weight_layers"),
        _scaled(arms, "Parameters", "parameters"),
        _scaled(arms, "Multiply-adds", "multiply_adds"),
        _plain(arms, "Receptive field", "receptive_field", "px"),
        _plain(arms, "Non-linearities", "nonlinearities"),
    ]
    return _by_arm(arms, "networks", "What was built", columns, notes)


def cost_table(comparison: Comparison) -> Table:
    """What training took, the donor's with it, and inference where it was measured."""
    arms = comparison.arms
    inference = _inference_columns(arms)
    notes = [
        "Means over the finished trials, on the hardware named under Reproduction; memory at its peak in training."
    ]
    if inference:
        notes.append("Inference: the pass over the test examples, and its memory beyond what was held before it.")
    training = [
        _measured("Training", [arm.train_seconds for arm in arms], time_unit),
        *_donor_column(arms),
        _measured("Throughput", [arm.images_per_second for arm in arms], _images),
        _measured("Peak memory", [arm.peak_memory_bytes or math.nan for arm in arms], byte_unit),
    ]
    columns = [*([] if all(arm.tests for arm in arms) else training), *inference]
    return _by_arm(arms, "cost", "What it cost per trial", columns, [*notes, *_charged(arms), *_tested(arms)])


def costs_of_testing(arms: Sequence[ArmRow]) -> list[tuple[Column, list[Cell]]]:
    """What a test of one image takes, and how many it does in a second; nothing where every arm trains."""
    if not any(arm.tests for arm in arms):
        return []
    speeds = _measured("Tested", [arm.inference_images_per_second for arm in arms], _images)
    return [_scaled(arms, "Multiply-adds", "multiply_adds"), speeds]


def _by_arm(
    arms: Sequence[ArmRow],
    name: str,
    caption: str,
    columns: Sequence[tuple[Column, list[Cell]]],
    notes: Sequence[str],
) -> Table:
    cells = [cells for _, cells in columns]
    return Table(
        name=name,
        caption=caption,
        columns=(Column(title="Arm"), *(column for column, _ in columns)),
        rows=tuple((text(arm.name, "strong"), *row) for arm, row in zip(arms, zip(*cells, strict=True), strict=True)),
        notes=tuple(notes),
    )


def _charged(arms: Sequence[ArmRow]) -> list[str]:
    """What every donor is charged to."""
    started: dict[tuple[tuple[str, ...], int], list[str]] = {}
    for arm in arms:
        if arm.donors:
            started.setdefault((arm.donors, arm.donor_epochs), []).append(arm.name)
    return [_charge(names, donors, epochs) for (donors, epochs), names in started.items()]


def _charge(names: Sequence[str], donors: Sequence[str], epochs: int) -> str:
    starts, them = ("starts", "it") if len(names) == 1 else ("start", "each of them")
    its, time = ("its", "the donor's time") if len(donors) == 1 else ("their", "the donors' time")
    return (
        f"{listed(names)} {starts} from the trained network of {', which starts from that of '.join(donors)} under the "
        f"same seed; {its} {plural(epochs, 'epoch')} are charged to {them}: Training includes {time}, which stands "
        "apart under Donor."
    )


def _tested(arms: Sequence[ArmRow]) -> list[str]:
    """Whose networks are tested by arms that train nothing; their training is nobody's charge."""
    tests: dict[tuple[str, ...], list[str]] = {}
    for arm in arms:
        if arm.tests:
            tests.setdefault(arm.tests, []).append(arm.name)
    return [
        f"{listed(names)} {'trains nothing and tests' if len(names) == 1 else 'train nothing and test'} what "
        f"{listed(tested)} {'has' if len(tested) == 1 else 'have'} trained under the same seed, once for all arms: "
        "that training is charged to none of them."
        for tested, names in tests.items()
    ]


def donors_table(comparison: Comparison) -> Table:
    """The trials that arms start from or test, and that are no arm's own."""
    digits = places(comparison)
    why = {(each.arm, each.seed): each.why for each in failures(comparison.donors)}
    rows = tuple(
        (
            text(trial.arm, "strong"),
            Cell(text=str(trial.seed), sort=trial.seed),
            text(trial.state, "alert" if (trial.arm, trial.seed) in why else ""),
            _number(metric(trial, "test_error", diverged=True), digits),
            _number(cost(trial, "train_seconds", diverged=True), 1),
        )
        for trial in comparison.donors
    )
    columns = (
        Column(title="Donor"),
        Column(title="Seed", kind="number"),
        Column(title="State"),
        Column(title="Test error", unit="%", kind="number"),
        Column(title="Training", unit="s", kind="number"),
    )
    return Table(
        name="donors",
        caption="Networks that arms test"
        if any(arm.tests for arm in comparison.arms)
        else "Networks that arms start from",
        columns=columns,
        rows=rows,
        notes=("Donors are no arms: they stand in no difference and in no verdict.",),
        folded=len(rows) > FOLDED_FROM,
    )


def _number(value: float, digits: int) -> Cell:
    return Cell(text=fixed(value, digits), sort=value)


def _plain(arms: Sequence[ArmRow], title: str, name: str, unit: str = "") -> tuple[Column, list[Cell]]:
    values = [float(arm.properties.get(name, math.nan)) for arm in arms]
    return Column(title=title, unit=unit, kind="number"), [Cell(text=whole(value), sort=value) for value in values]


def _scaled(arms: Sequence[ArmRow], title: str, name: str) -> tuple[Column, list[Cell]]:
    values = [float(arm.properties.get(name, math.nan)) for arm in arms]
    return _measured(title, values, metric_unit)


def _measured(
    title: str, values: Sequence[float], unit: Callable[[Sequence[float]], tuple[float, str]]
) -> tuple[Column, list[Cell]]:
    factor, name = unit(values)
    digits = shared_decimals([value / factor for value in values])
    cells = [Cell(text=fixed(value / factor, digits), sort=value) for value in values]
    return Column(title=title, unit=name, kind="number"), cells


def _images(_: Sequence[float]) -> tuple[float, str]:
    return 1.0, "images/s"


def _donor_column(arms: Sequence[ArmRow]) -> list[tuple[Column, list[Cell]]]:
    """The part of the training time that is the donor's, in the unit of the whole; nothing where no arm has a donor."""
    if not any(arm.donors for arm in arms):
        return []
    factor, unit = time_unit([arm.train_seconds for arm in arms])
    values = [arm.donor_seconds / factor if arm.donors else math.nan for arm in arms]
    digits = shared_decimals(values)
    cells = [
        Cell(text=f"{fixed(value, digits)} ({plural(arm.donor_epochs, 'epoch')})", sort=value)
        if arm.donors
        else Cell(text="from scratch", tone="quiet")
        for arm, value in zip(arms, values, strict=True)
    ]
    return [(Column(title="Donor", unit=f"of it, {unit}", kind="number"), cells)]


def _inference_columns(arms: Sequence[ArmRow]) -> list[tuple[Column, list[Cell]]]:
    """Nothing where no trial has measured inference."""
    speeds = [arm.inference_images_per_second for arm in arms]
    memory = [arm.inference_peak_memory_bytes or math.nan for arm in arms]
    columns = [(speeds, "Inference", _images), (memory, "Inference memory", byte_unit)]
    return [_measured(title, values, unit) for values, title, unit in columns if any(map(math.isfinite, values))]
