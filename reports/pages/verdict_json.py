"""Verdicts as JSON, by the schema of docs/verdict.schema.json."""

from __future__ import annotations

import math
from typing import Any

from reports.external.judgement import UNKNOWN_OF_RESULTS, Judgement, change_interval
from reports.formatting import typeset_minus_signs
from reports.pages.gate import GateOutcome

SCHEMA_VERSION = 1  # raised when a key is removed or changes its meaning


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
        "schema": SCHEMA_VERSION,
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
        "schema": SCHEMA_VERSION,
        "kind": "gate",
        "source": source,
        "word": outcome.word,
        "accepted": outcome.is_accepted,
        "exit_code": outcome.exit_code,
        "finding": outcome.finding,
        "seeds_needed": outcome.seeds_needed,
        "claims": claims,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
