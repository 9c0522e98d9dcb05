"""What a study has found, for its own run in MLflow: metrics, tags, and a note."""

from __future__ import annotations

from collections import Counter

from lightning_modules.specs.text import join_words
from reports.comparison.claims import VERDICT_ORDER
from reports.comparison.comparison import Comparison, compare_arms
from reports.content.report import VERDICT_SYMBOLS
from reports.content.results import contrasts_table, results_table
from reports.renderers import markdown
from studies.records.study_record import StudyRecord
from studies.tracking.interface.findings import StudyFindings, digest_trials, to_metric_name

MAX_TABLE_ROWS = 40  # in the note, whose 8,000 characters are MLflow's limit


def describe_findings(record: StudyRecord, comparison: Comparison | None = None) -> StudyFindings:
    """What a recorded study has found so far, under the recipe that all arms share.

    Args:
        comparison: of its arms, where it has been made already.
    """
    comparison = comparison or compare_arms(record)
    return StudyFindings(
        question=record.registration.question,
        metrics=_metrics(comparison),
        tags=_tags(comparison),
        note=_note(comparison),
        num_ended=sum(arm.num_ended for arm in comparison.arms),
        trials_digest=digest_trials(record.trials),
    )


def _metrics(comparison: Comparison) -> dict[str, float]:
    """Mean, half-width of its 95% interval and number of seeds per arm; differences, positive for a higher error."""
    metrics: dict[str, float] = {}
    for arm in comparison.arms:
        metrics[to_metric_name("test_error", arm.name)] = arm.mean_error.value
        metrics[to_metric_name("test_error_half_width", arm.name)] = arm.mean_error.half_width
        metrics[to_metric_name("test_error_seeds", arm.name)] = float(arm.num_finished - arm.num_without_error)
    for difference in comparison.differences:
        words = f"{difference.arm} - {difference.over}"
        change = difference.estimate.reverse()  # an estimate is positive where the error falls
        metrics[to_metric_name("test_error_difference", words)] = change.value
        metrics[to_metric_name("test_error_difference_half_width", words)] = change.half_width
    return metrics


def _tags(comparison: Comparison) -> dict[str, str]:
    counts = Counter(claim.word for claim in comparison.claims)
    verdicts = join_words(f"{counts[word]} {word}" for word in VERDICT_ORDER if counts[word])
    tags = {"answer": comparison.answer, "verdicts": verdicts or "no claim was registered"}
    for number, claim in enumerate(comparison.claims, 1):
        tags[f"verdict.{number}"] = claim.word
        tags[f"claim.{number}"] = claim.sentence
    return tags


def _note(comparison: Comparison) -> str:
    blocks = [f"**{markdown.escape_text(comparison.registration.question)}**", markdown.escape_text(comparison.answer)]
    for claim in comparison.claims:
        symbol = VERDICT_SYMBOLS[claim.word]
        sentence, explanation = markdown.escape_text(claim.sentence), markdown.escape_text(claim.explanation)
        blocks.append(f"{symbol} **{claim.word}**: {sentence} {explanation}")
    for table in (results_table(comparison), contrasts_table(comparison)):
        if table.rows and len(table.rows) <= MAX_TABLE_ROWS:
            blocks.append(markdown.render_table(table))
    cautions = [f"- {markdown.escape_text(caution)}" for caution in comparison.cautions]
    if cautions:
        blocks += ["**Caveats**", "\n".join(cautions)]
    return markdown.join_blocks(blocks).rstrip()
