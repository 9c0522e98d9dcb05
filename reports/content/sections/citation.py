"""A sentence to cite, and a paragraph on methods to paste into a paper."""

from __future__ import annotations

from lightning_modules.specs.text import format_count, join_words
from reports.comparison.comparison import Comparison
from reports.document import Section
from reports.formatting import format_integer
from studies.records.registration import Registration

DATE_LENGTH = len("2026-11-27")  # at the start of an ISO 8601 time


def citation_section(comparison: Comparison) -> Section:
    """The section; without a finished trial, there is nothing to cite."""
    paragraphs = (describe_finding(comparison), describe_methods(comparison)) if comparison.has_errors else ()
    return Section(name="citation", title="To cite, and to paste into a paper", paragraphs=paragraphs)


def describe_finding(comparison: Comparison) -> str:
    """The result in a sentence that stands alone: what was found, on what data, from how many seeds."""
    registration = comparison.registration
    findings = [f"{claim.finding} [{claim.word}]" for claim in comparison.claims]
    found = "; ".join(findings) if 0 < len(findings) <= 3 else comparison.answer.rstrip(".")
    data = registration.data.get("name", "its data")
    return f"On {data}, with {_describe_pairs(comparison)}: {found}. {_name_study(comparison)}"


def _describe_pairs(comparison: Comparison) -> str:
    """The seeds that the findings are from: those under which both arms of a difference have an error."""
    num_planned = len(comparison.registration.seeds)
    counts = [difference.num_pairs for difference in comparison.differences]
    if not counts:  # a study of one arm
        (arm,) = comparison.arms
        return f"{arm.num_finished} of {format_count(num_planned, 'planned seed')}"
    fewest, most = min(counts), max(counts)
    if fewest == num_planned:
        return f"{format_count(num_planned, 'paired seed')} per arm"
    complete = f"{fewest}" if fewest == most else f"{fewest} to {most}"
    return f"{complete} of {format_count(num_planned, 'planned pair')} of seeds complete"


def describe_methods(comparison: Comparison) -> str:
    """How the study was made, as the past tense of a paper has it."""
    registration = comparison.registration
    sentences = [
        f"We compared {format_count(len(registration.arms), 'arm')} ({join_words(registration.arms, max_words=8)}; "
        f"baseline {registration.baseline}), which differed in {join_words(registration.varies) or 'nothing'} alone; "
        f"{format_count(len(registration.held), 'other setting')} were equal in all arms.",
        f"Every arm was planned under the same {format_count(len(registration.seeds), 'seed')}, which fix initial "
        "weights, order of the examples and augmentation.",
        _describe_data(registration),
        _describe_registration(comparison),
        "Differences are means over the pairs of seeds in which both trials finished, with simultaneous "
        f"{comparison.confidence_level} confidence intervals (multivariate t). A direction is asserted where its "
        "interval excludes 0, equivalence where both one-sided bounds lie within the smallest effect of interest.",
        _describe_exclusions(comparison),
        _describe_software(comparison),
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def _name_study(comparison: Comparison) -> str:
    registration = comparison.registration
    parts = [f"study {registration.study}", f"protocol {registration.protocol}"]
    if comparison.registration_check and comparison.registration_check.digest:
        parts.append(f"registration {comparison.registration_check.digest}")
    parts.append(f"run {comparison.run_id}")
    if comparison.starts:
        parts.append(comparison.starts[-1].time[:DATE_LENGTH])
    return f"Ablation {', '.join(parts)}."


def _describe_data(registration: Registration) -> str:
    sizes = []
    for split, words in (("train", "training"), ("validation", "validation"), ("test", "test")):
        if split in registration.data:
            sizes.append(f"{format_integer(float(registration.data[split]))} {words}")
    examples = f" ({join_words(sizes)} examples)" if sizes else ""
    return f"The data were {registration.data.get('name', 'unknown')}{examples}."


def _describe_registration(comparison: Comparison) -> str:
    registration = comparison.registration
    effect = f"a smallest effect of interest of {registration.smallest_effect:g} percentage points"
    if not registration.claims:
        return f"No claim was registered; {effect} was."
    count = format_count(len(registration.claims), "claim")
    check = comparison.registration_check
    when = f" {check.entries[0].results_seen}" if check and check.entries else ""
    return f"{count} and {effect} were registered{when}."


def _describe_exclusions(comparison: Comparison) -> str:
    """The planned trials of the arms that have no test error, and why; their source networks are not counted."""
    arms = comparison.arms
    num_lost = sum(arm.num_nonfinite + arm.num_at_chance + arm.num_failed + arm.num_without_error for arm in arms)
    num_cancelled = sum(arm.num_cancelled for arm in arms)
    num_open = sum(arm.num_running + arm.num_not_started for arm in arms)
    sentences = ["All trials that ended have a test error; none was excluded."]
    if num_lost:
        lost = format_count(num_lost, "trial")
        sentences = [f"Not finished: {lost} without a test error (non-finite, at chance or failed); none was excluded."]
    elif num_cancelled:
        sentences = []
    if num_cancelled:
        sentences.append(f"Cancelled, and so missing from the pairs: {format_count(num_cancelled, 'trial')}.")
    if num_open:
        sentences.append(f"Planned, but not ended: {format_count(num_open, 'trial')}.")
    return " ".join(sentences)


def _describe_software(comparison: Comparison) -> str:
    if not comparison.starts:
        return ""
    start = comparison.starts[-1]
    versions = join_words(f"{name} {version}" for name, version in sorted(start.versions.items()))
    hardware = f" on {start.hardware}" if start.hardware else ""
    revision = f", code revision {start.revision[:12]}" if start.revision else ""
    return f"Trained{hardware} with {versions}{revision}." if versions else ""
