"""Contents of the page of a calibration: what was measured, in sentences and tables."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_modules.specs.text import format_count, format_points, join_words
from reports.calibration.calibration import NUM_RESAMPLES, NUM_STUDIES
from reports.calibration.cases import Calibration, Case, MeasuredRate
from reports.document import Cell, Column, Section, Table, nonempty_tables, text_cell
from reports.formatting import Interval, format_fixed, format_integer, format_interval

NOMINAL_PERCENT = 5.0
SHOWN_SEED_COUNTS = (2, 3, 5, 8, 10, 15, 20)
NULL_TABLE, POWER_TABLE, EQUIVALENCE_TABLE, NOISE_TABLE = "wrong", "power", "equivalence", "noise"


def calibration_title(calibration: Calibration) -> str:
    """Title of the page."""
    trainings = calibration.trainings
    arms = join_words(trainings.arms)
    return (
        f"Calibration on {trainings.num_trainings} trainings each of {arms} "
        f"({trainings.study} under {trainings.protocol})"
    )


def summarize_calibration(calibration: Calibration) -> str:
    """The answer in two sentences: the highest rate of wrong verdicts, and the share found at the planned seeds."""
    wrong = calibration.select_rates("wrong")
    highest = max(wrong, key=lambda rate: rate.percent)
    lowest = min(rate.percent for rate in wrong)
    above = [rate for rate in wrong if rate.low > NOMINAL_PERCENT]
    sentences = [
        f"Where no arm differs, {format_fixed(lowest, 1)} to {format_fixed(highest.percent, 1)}% of studies have a "
        f"wrong verdict; the rule promises at most 5%. The highest rate is {format_rate(highest)}%: "
        f"{describe_case(highest.case)}."
    ]
    # By the interval and not the rate: of hundreds of rates at 5%, half lie above it by chance.
    if above:
        sentences.append(f"In {len(above)} of {len(wrong)} cases the interval lies above 5%.")
    else:
        sentences.append("In no case does the interval lie above 5%.")
    for rate in calibration.select_rates("found"):
        # The mean over arms; with two arms there is but one, and no mean is listed.
        if not rate.case.arm or len(calibration.trainings.arms) == 2:
            sentences.append(
                f"An improvement of {format_points(rate.case.shift)} is found in {format_rate(rate)}% of studies with "
                f"the {rate.case.num_seeds} seeds that were planned for 80%."
            )
    return " ".join(sentences)


def describe_case(case: Case) -> str:
    """A null case in words."""
    world = f"unpaired, seeds of {case.arm}" if case.world == "unpaired" else "paired"
    return f"{world}, {case.num_arms} arms, {case.num_seeds} seeds, claims: {case.claims}"


def format_rate(rate: MeasuredRate) -> str:
    """A percentage with the limits of its interval."""
    return f"{format_fixed(rate.percent, 1)} [{format_fixed(rate.low, 1)}, {format_fixed(rate.high, 1)}]"


def calibration_sections(calibration: Calibration) -> tuple[Section, ...]:
    """All sections after the opening."""
    return (
        Section(
            name="errors",
            title="Wrong verdicts where nothing differs",
            paragraphs=(_describe_worlds(calibration),),
            tables=nonempty_tables(highest_rates_table(calibration), all_rates_table(calibration)),
            figures=("rates",),
        ),
        Section(
            name="power",
            title="What the planned seeds find",
            paragraphs=() if calibration.planned_seeds else ("Not measured: see what is left out, below.",),
            tables=nonempty_tables(power_table(calibration), equivalence_table(calibration)),
        ),
        Section(
            name="noise",
            title="The noise of these trainings",
            points=_describe_pairing(calibration),
            tables=nonempty_tables(noise_table(calibration)),
            figures=("trainings",),
        ),
        Section(name="method", title="How this was measured", points=_describe_method(calibration)),
    )


def _describe_worlds(calibration: Calibration) -> str:
    paired = (
        " Paired: all arms under the same seeds, each centered on its own mean; a study draws seeds with replacement, "
        "jointly for all arms."
        if calibration.paired_noise
        else ""
    )
    return (
        "Unpaired: different seeds of one arm, dealt at random to pseudo-arms; their correlation is 0." + paired + " "
        "A study counts as wrong if one of its verdicts asserts what is false; at no difference, practically "
        "equivalent and inconclusive are right."
    )


def highest_rates_table(calibration: Calibration) -> Table:
    """Per world and claims, the highest rate over numbers of arms, by number of seeds."""
    groups: dict[tuple[str, ...], list[MeasuredRate]] = {}
    for rate in calibration.select_rates("wrong"):
        groups.setdefault((rate.case.world, rate.case.arm, rate.case.claims), []).append(rate)
    rows = []
    for (world, arm, claims), rates in groups.items():
        cells = [_highest_cell(rates, num_seeds) for num_seeds in SHOWN_SEED_COUNTS]
        rows.append((text_cell(f"{world}, {arm}" if arm else world, "strong"), text_cell(claims), *cells))
    columns = (Column(title="Trainings"), Column(title="Claims"), *_seed_columns())
    note = (
        "Percent of studies with a wrong verdict, ± half of the 95% interval; the highest over 2 to 6 arms. "
        "Marked *: the interval lies above 5%."
    )
    return Table(
        name=NULL_TABLE,
        caption="Wrong verdicts, the highest rate over numbers of arms",
        columns=columns,
        rows=tuple(rows),
        notes=(note,),
    )


def all_rates_table(calibration: Calibration) -> Table:
    """Every number of arms in a row of its own."""
    groups: dict[tuple[str, str, str, int], list[MeasuredRate]] = {}
    for rate in calibration.select_rates("wrong"):
        case = rate.case
        groups.setdefault((case.world, case.arm, case.claims, case.num_arms), []).append(rate)
    rows = []
    # One rate per number of seeds is left in each group: the highest of one is that one.
    for (world, arm, claims, num_arms), rates in groups.items():
        cells = [_highest_cell(rates, num_seeds) for num_seeds in SHOWN_SEED_COUNTS]
        arms = Cell(text=str(num_arms), sort=num_arms)
        rows.append((text_cell(f"{world}, {arm}" if arm else world, "strong"), text_cell(claims), arms, *cells))
    columns = (Column(title="Trainings"), Column(title="Claims"), Column(title="Arms", kind="number"), *_seed_columns())
    return Table(
        name="all-rates",
        caption="Wrong verdicts by number of arms",
        columns=columns,
        rows=tuple(rows),
        notes=("All numbers of seeds from 2 to 20 are in rates.csv.",),
        folded=True,
    )


def _seed_columns() -> tuple[Column, ...]:
    return tuple(Column(title=f"{count} seeds", kind="number") for count in SHOWN_SEED_COUNTS)


def _highest_cell(rates: Sequence[MeasuredRate], num_seeds: int) -> Cell:
    candidates = [rate for rate in rates if rate.case.num_seeds == num_seeds]
    if not candidates:
        return text_cell("does not fit", "quiet")
    return rate_cell(max(candidates, key=lambda rate: rate.percent))


def rate_cell(rate: MeasuredRate) -> Cell:
    """A percentage ± half of its interval, marked where the interval lies above 5%."""
    half_width = max(rate.high - rate.percent, rate.percent - rate.low)  # one of the two may be cut at 0 or 100
    text = f"{format_fixed(rate.percent, 1)} ± {format_fixed(half_width, 1)}"
    return Cell(text=text, sort=rate.percent, mark="*" if _is_above_nominal(rate) else "")


def _is_above_nominal(rate: MeasuredRate) -> bool:
    return rate.case.quantity in ("wrong", "wrong equivalence") and rate.low > NOMINAL_PERCENT


def power_table(calibration: Calibration) -> Table:
    """Share of studies that find what is true, at the planned seeds."""
    rows = []
    for rate in (*calibration.select_rates("found"), *calibration.select_rates("found equivalence")):
        case = rate.case
        truth = f"improves by {format_points(case.shift)}" if case.shift else "does not differ"
        word = "supported" if case.quantity == "found" else "practically equivalent"
        rows.append(
            (
                text_cell(_shifted_arm_text(case), "strong"),
                text_cell(truth),
                Cell(text=str(case.num_seeds), sort=case.num_seeds),
                text_cell(word),
                Cell(text=format_rate(rate), sort=rate.percent),
            )
        )
    columns = (
        Column(title="Arm"),
        Column(title="What is true"),
        Column(title="Seeds", unit="planned for 80%", kind="number"),
        Column(title="Verdict"),
        Column(title="Studies", unit="%", kind="number"),
    )
    note = (
        "The seeds are those of ablate plan for the claims that each arm improves on the baseline, at the noise of "
        "these trainings. The plan assumes equal noise in all arms: an arm with more noise is found less often."
    )
    return Table(
        name=POWER_TABLE, caption="Share of studies that find what is true", columns=columns, rows=tuple(rows),
        notes=(note,),
    )  # fmt: skip


def equivalence_table(calibration: Calibration) -> Table:
    """Share of studies that call an arm equivalent which differs by the smallest effect."""
    effect = calibration.trainings.smallest_effect
    rates = {
        (rate.case.arm, rate.case.shift, rate.case.num_seeds): rate
        for rate in calibration.select_rates("wrong equivalence")
    }
    seed_counts = sorted({num_seeds for _, _, num_seeds in rates})
    rows = []
    for arm, shift in dict.fromkeys((arm, shift) for arm, shift, _ in rates):
        truth = f"{'improves' if shift > 0 else 'is worse'} by {format_points(effect)}"
        cells = [rate_cell(rates[arm, shift, num_seeds]) for num_seeds in seed_counts]
        rows.append((text_cell(arm or "mean over arms", "strong"), text_cell(truth), *cells))
    columns = (
        Column(title="Arm"),
        Column(title="What is true"),
        *(Column(title=f"{count} seeds", kind="number") for count in seed_counts),
    )
    note = "Percent of studies, ± half of the 95% interval. Marked *: the interval lies above 5%."
    caption = f"Wrong equivalence at a difference of {format_points(effect)}, the smallest effect"
    return Table(name=EQUIVALENCE_TABLE, caption=caption, columns=columns, rows=tuple(rows), notes=(note,))


def _shifted_arm_text(case: Case) -> str:
    return case.arm or "mean over arms"


def noise_table(calibration: Calibration) -> Table:
    """Spread and shape per arm."""
    rows = []
    for noise in calibration.arm_noise:
        rows.append(
            (
                text_cell(noise.arm, "strong"),
                Cell(text=format_fixed(noise.mean, 2), sort=noise.mean),
                _unsigned_interval_cell(noise.deviation),
                Cell(text=format_interval(noise.skewness, 2), sort=noise.skewness.value),
                Cell(text=format_fixed(noise.mode_p_value, 2), sort=noise.mode_p_value),
                text_cell(noise.shape),
            )
        )
    columns = (
        Column(title="Arm"),
        Column(title="Mean error", unit="%", kind="number"),
        Column(title="SD", unit="points", kind="number"),
        Column(title="Skewness", kind="number"),
        Column(title="One mode", unit="p", kind="number", about="Silverman's test of one mode against several"),
        Column(title="Shape"),
    )
    note = "Brackets: 95% bootstrap intervals over the trainings. One mode: Silverman's (1981) test, which is cautious."
    return Table(
        name=NOISE_TABLE, caption="Test error of the trainings", columns=columns, rows=tuple(rows), notes=(note,)
    )


def _unsigned_interval_cell(interval: Interval) -> Cell:
    limits = f"[{format_fixed(interval.low, 2)}, {format_fixed(interval.high, 2)}]"
    return Cell(text=f"{format_fixed(interval.value, 2)} {limits}", sort=interval.value)


def _describe_pairing(calibration: Calibration) -> tuple[str, ...]:
    noise = calibration.paired_noise
    if noise is None:
        return ()
    # Seeds needed go with the variance of the difference (Student's t at a fixed power).
    saved = 1 - (noise.deviation.value / noise.unpaired_deviation) ** 2
    effect = f"saves {saved:.0%} of the seeds" if saved > 0 else "saves no seeds"
    return (
        f"Correlation of two arms over seeds: {format_interval(noise.correlation, 2)}. SD of a paired difference: "
        f"{_unsigned_interval_cell(noise.deviation).text} points, against {format_fixed(noise.unpaired_deviation, 2)} "
        f"under different seeds: pairing {effect}.",
    )


def _describe_method(calibration: Calibration) -> tuple[str, ...]:
    trainings = calibration.trainings
    return (
        f"{format_count(trainings.num_trainings, 'training')} of each arm, by the ordinary run: recorded, and reused "
        "by any study with the same trials.",
        f"{format_integer(NUM_STUDIES)} studies are drawn for every number of seeds and arms, and judged by the rule "
        f"of the report, at its smallest effect of interest of {format_points(trainings.smallest_effect)}. Another "
        f"{format_integer(calibration.num_checked)} were judged one by one by the report's own function as well: every "
        "word was the same.",
        f"The intervals come from {NUM_RESAMPLES} resamples of the trainings, not from the number of drawn studies.",
        *(f"Left out: {sentence}" for sentence in calibration.left_out),
    )
