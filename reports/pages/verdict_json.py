"""Verdicts as JSON, by the schema of docs/verdict.schema.json."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reports.comparison.comparison import Comparison
from reports.external.judgement import UNKNOWN_OF_RESULTS, Judgement, change_interval
from reports.formatting import typeset_minus_signs
from reports.pages.gate_outcome import GateOutcome
from studies.records.registration_log import RegistrationCheck
from studies.records.schema import PRINTED_SCHEMA


def describe_judgement(judgement: Judgement) -> dict[str, Any]:
    """Verdicts on results that were measured elsewhere; numbers that do not exist are null."""
    table = judgement.table
    arms = []
    for arm in judgement.arms:
        arms.append(
            {
                "arm": arm.name,
                "mean": _finite(arm.mean.mean),
                "low": _finite(arm.mean.low),
                "high": _finite(arm.mean.high),
                "standard_deviation": _finite(arm.mean.standard_deviation),
                "seeds": arm.mean.num_seeds,
                "without_value": arm.num_lost,
            }
        )
    differences = []
    for index, contrast in enumerate(judgement.differences):
        change, low, high = change_interval(contrast, higher_is_better=table.metric.higher_is_better)
        differences.append(
            {
                "over": contrast.over,
                "arm": contrast.arm,
                "change": _finite(change),
                "low": _finite(low),
                "high": _finite(high),
                "pairs": contrast.num_pairs,
                "claimed": index < judgement.num_registered,
            }
        )
    claims = []
    for verdict in judgement.verdicts:
        claims.append(
            {
                "claim": verdict.claim.sentence,
                "word": verdict.word,
                "finding": typeset_minus_signs(verdict.finding),
                "reason": typeset_minus_signs(verdict.reason),
                "notes": [typeset_minus_signs(note) for note in verdict.notes],
            }
        )
    return {
        "schema": PRINTED_SCHEMA,
        "kind": "judgement",
        "source": table.source,
        "metric": table.metric.name,
        "higher_is_better": table.metric.higher_is_better,
        "unit": table.unit or None,
        "baseline": table.baseline,
        "smallest_effect": judgement.smallest_effect or None,
        "claims": claims,
        "arms": arms,
        "differences": differences,
        "seeds_needed": judgement.seeds_needed,
        "cautions": [UNKNOWN_OF_RESULTS, *table.cautions],
    }


def describe_gate(outcome: GateOutcome, source: str) -> dict[str, Any]:
    """The outcome of a gate with the verdicts behind it."""
    claims = [{"claim": claim.claim.sentence, "word": claim.word, "finding": claim.finding} for claim in outcome.claims]
    return {
        "schema": PRINTED_SCHEMA,
        "kind": "gate",
        "source": source,
        "word": outcome.word,
        "accepted": outcome.is_accepted,
        "exit_code": outcome.exit_code,
        "finding": outcome.finding,
        "seeds_needed": outcome.seeds_needed,
        "takes_more_than_500_seeds": outcome.takes_too_many_seeds,
        "cautions": list(outcome.cautions),
        "claims": claims,
        "registration": outcome.registration and describe_registration(outcome.registration),
    }


def describe_reports(
    comparisons: Sequence[Comparison], pages: Sequence[Path], further_pages: Mapping[str, Path]
) -> dict[str, Any]:
    """Compiled reports.

    Args:
        comparisons: those that the pages were compiled from.
        further_pages: ``comparison`` of two runs and ``summary`` of several studies, where they were compiled.
    """
    described = [_describe_report(comparison, page) for comparison, page in zip(comparisons, pages, strict=True)]
    others = {name: str(further_pages[name]) if name in further_pages else None for name in ("comparison", "summary")}
    return {"schema": PRINTED_SCHEMA, "kind": "reports", "reports": described, **others}


def _describe_report(comparison: Comparison, page: Path) -> dict[str, Any]:
    """A study's report: verdicts, arms, differences and cautions, under the recipe that all arms share."""
    claims = []
    for claim in comparison.claims:
        claims.append(
            {
                "claim": claim.sentence,
                "word": claim.word,
                "finding": claim.finding,
                "reason": claim.reason,
                "notes": list(claim.all_notes),
            }
        )
    arms = []
    for arm in comparison.arms:
        arms.append(
            {
                "arm": arm.name,
                "mean": _finite(arm.mean_error.value),
                "low": _finite(arm.mean_error.low),
                "high": _finite(arm.mean_error.high),
                "seeds": arm.num_finished - arm.num_without_error,
                "without_value": arm.num_ended - arm.num_finished + arm.num_without_error,
            }
        )
    differences = []
    for difference in comparison.differences:
        change = difference.estimate.reverse()  # positive where the error rises, as in a judgement
        differences.append(
            {
                "over": difference.over,
                "arm": difference.arm,
                "change": _finite(change.value),
                "low": _finite(change.low),
                "high": _finite(change.high),
                "pairs": difference.num_pairs,
                "claimed": difference.is_registered,
            }
        )
    registration, check = comparison.registration, comparison.registration_check
    return {
        "study": registration.study,
        "protocol": registration.protocol,
        "run_id": comparison.run_id,
        "answer": comparison.answer,
        "page": str(page),
        "metric": "test_error",
        "unit": "percent",
        "baseline": registration.baseline,
        "smallest_effect": registration.smallest_effect,
        "claims": claims,
        "arms": arms,
        "differences": differences,
        "cautions": list(comparison.cautions),
        "registration": check and describe_registration(check),
    }


def describe_registration(check: RegistrationCheck) -> dict[str, Any]:
    """The registration of a study: its digest, its amendments, and whether its copies agree."""
    entries = []
    for entry in check.entries:
        entries.append(
            {
                "digest": entry.digest,
                "time": entry.time,
                "author": entry.author,
                "results": entry.num_results,
                "planned": entry.num_planned,
                "code": entry.code,
            }
        )
    return {
        "state": check.state,
        "digest": check.digest or None,
        "entries": entries,
        "places": list(check.places),
        "mismatches": list(check.mismatches),
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
