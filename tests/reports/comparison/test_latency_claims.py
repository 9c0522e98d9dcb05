"""Latency as an endpoint of claims and in the table of costs. Made-up numbers."""

import json
from dataclasses import replace

import numpy as np
import pytest

from ablations import DoesNotHelp, FallsWith, Helps
from reports.analysis.endpoints import endpoint_values
from reports.comparison.comparison import compare_arms, unresolved
from reports.pages.gate_outcome import gate_comparison
from reports.renderers import csv as csv_tables
from reports.renderers import markdown
from studies.records.record_json import record_from_json, record_to_json
from tests.reports.records import record
from tests.studies.latency.test_measurement import arm_latency, measurement

CLAIMS = (
    Helps(arm="A", over="B", endpoint="latency"),
    DoesNotHelp(arm="D", over="E", endpoint="latency"),
    FallsWith(order=("E", "D", "B", "A"), endpoint="latency"),
)
MILLISECONDS = {
    "A": (1.00, 1.01, 1.00, 0.99, 1.00),
    "B": (1.50, 1.51, 1.52, 1.50, 1.49),
    "D": (2.00, 2.01, 1.99, 2.00, 2.01),
    "E": (2.02, 2.01, 2.01, 2.02, 2.00),
}


def study(*, measured=True, **fields):
    made = record()
    arms = tuple(arm_latency(arm, tuple(ms / 1000 for ms in values)) for arm, values in MILLISECONDS.items())
    latency = measurement(arms=arms, **fields) if measured else None
    return replace(made, registration=replace(made.registration, claims=CLAIMS), latency=latency)


def test_values_are_arms_by_processes_in_milliseconds():
    assert endpoint_values(study(), "latency") == pytest.approx(np.array(list(MILLISECONDS.values())))
    assert endpoint_values(study(measured=False), "latency").shape == (4, 0)


def test_claims_are_judged_over_processes_and_say_where_they_hold():
    helps, does_not_help, falls = compare_arms(study()).claims
    assert helps.word == "supported"
    assert "change from B to A −0.504 ms" in helps.finding
    assert does_not_help.word == "practically equivalent"
    assert falls.word == "supported"
    told = " ".join(helps.notes)
    assert (
        "latency is of the networks on one machine (CPU X, 1 thread of 8 cores, torch 2.9.1), not of the seeds" in told
    )
    assert "the interval is over 5 fresh processes there" in told
    assert "5% of the baseline's mean, 0.0500 ms" in told


def test_a_verdict_says_that_the_machine_was_busy():
    claim = compare_arms(study(other_cores=(3.0,) * 5)).claims[0]
    assert "not quiet: Other processes kept up to 3.0 of 8 cores busy meanwhile" in " ".join(claim.notes)


def test_without_a_measurement_a_claim_says_which_command_makes_it_and_asks_for_no_seeds():
    made = study(measured=False)
    compared = compare_arms(made)
    assert {claim.word for claim in compared.claims} == {"inconclusive"}
    assert "not measured yet: `ablate latency depth` does" in compared.claims[0].finding
    assert gate_comparison(made, compared).seeds_needed is None
    assert unresolved(made) == ()  # no seed would resolve them


def test_the_table_of_costs_has_medians_with_ranges_and_the_machine():
    page = markdown.render_report(compare_arms(study(skipped={"E": "it evaluates networks of other arms"})), ())
    assert "Latency P50, batch 1, ms | Latency P95, batch 1, ms | Latency P99, batch 1, ms" in page
    assert "| A | 1.00 (0.99 to 1.01) | 1.10 (1.09 to 1.11) | 1.20 (1.19 to 1.21) |" in page
    assert "median over 5 fresh processes, with the smallest and the largest, on CPU X" in page
    assert "No latency of E: it evaluates networks of other arms." in page
    assert "atency" not in markdown.render_report(compare_arms(record()), ())


def test_the_table_of_arms_has_the_percentiles_in_seconds():
    first = csv_tables.arm_rows(compare_arms(study()))[0]
    assert first["latency_p50_seconds_batch_1"] == pytest.approx(1.0e-3)
    assert first["latency_p50_seconds_batch_1_max"] == pytest.approx(1.01e-3)
    assert "latency_p50_seconds_batch_1" not in csv_tables.arm_rows(compare_arms(record()))[0]


def test_a_record_keeps_its_latency():
    made = study()
    data = json.loads(json.dumps(record_to_json(made)))
    assert record_from_json(data, None, {}).latency == made.latency
    del data["latency"]
    assert record_from_json(data, None, {}).latency is None


@pytest.mark.parametrize("seeds", [1, 5])
def test_the_gate_judges_latency_without_errors_or_seeds(seeds):
    made = record(seeds=seeds, states={(arm, seed): "failed" for arm in MILLISECONDS for seed in range(seeds)})
    latency = study().latency
    made = replace(made, registration=replace(made.registration, claims=CLAIMS[:1]), latency=latency)
    outcome = gate_comparison(made, compare_arms(made))
    assert (outcome.word, outcome.is_accepted) == ("supported", True)
    assert compare_arms(made).answer.startswith("No trial has finished with a test error. Supported. A improves on B")
    assert "nothing to compare" not in compare_arms(made).answer
