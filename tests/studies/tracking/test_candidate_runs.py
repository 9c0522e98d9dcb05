"""Which runs of candidates a study's tuning consists of, after its searches were made again by other code."""

import itertools
from types import SimpleNamespace

import pytest

from studies.design.tuning import Choice, Range, TuningBudget
from studies.records.identity import EndedTrial, TrialKey
from studies.runner.tuning_stage import TuningStage
from studies.tracking.searches import read_candidates

TUNING = TuningBudget(
    trials=4, pruning="halving", rungs=2, space=(Range(path="recipe.learning_rate", low=0.01, high=0.1),)
)
TIMES = itertools.count()


def candidate_run(number, rung, code, arm="A", search="A"):
    tags = {"kind": "candidate", "search": search, "arm": arm, "candidate": str(number), "rung": str(rung)}
    tags |= {"seed": "1000000", "status": "finished", "code": code, "data": "d", "platform": "p"}
    params = {"recipe.epochs": "2", "recipe.learning_rate": "0.05"}
    info = SimpleNamespace(run_id=f"{code}-{arm}-{number}-{rung}", start_time=next(TIMES))
    return SimpleNamespace(info=info, data=SimpleNamespace(tags=tags, params=params, metrics={}))


def search_runs(code, promoted, num_first=4):
    first = [candidate_run(number, 0, code) for number in range(num_first)]
    return first + [candidate_run(number, 1, code) for number in promoted]


def promoted_in(runs):
    found = read_candidates(runs, TUNING)
    return {candidate.number for candidate in found if candidate.rung == 1 and not candidate.is_source}


def test_a_search_that_other_code_made_again_replaces_the_earlier_one():
    runs = [*search_runs("v1", (0, 1)), *search_runs("v2", (0, 2))]
    assert promoted_in(runs) == {0, 2}
    assert {candidate.run_id.partition("-")[0] for candidate in read_candidates(runs, TUNING)} == {"v2"}


@pytest.mark.parametrize("num_first", [1, 4])
def test_the_earlier_search_counts_until_the_later_one_is_whole(num_first):
    assert promoted_in([*search_runs("v1", (0, 1)), *search_runs("v2", (), num_first)]) == {0, 1}


def test_source_networks_of_another_arm_are_kept():
    runs = [*search_runs("v1", (0, 1)), candidate_run(0, 0, "v1+mine", arm="source"), *search_runs("v2", (0, 2))]
    assert [candidate.run_id for candidate in read_candidates(runs, TUNING) if candidate.is_source] == [
        "v1+mine-source-0-0"
    ]


def test_a_value_that_a_run_leaves_out_is_the_default():
    remainder = TuningBudget(trials=2, space=(Choice(path="recipe.remainder", values=("keep", "drop")),))
    runs = [candidate_run(number, 0, "v1") for number in range(2)]
    runs[1].data.params["recipe.remainder"] = "drop"
    values = [candidate.values for candidate in read_candidates(runs, remainder)]
    assert values == [{"recipe.remainder": "keep"}, {"recipe.remainder": "drop"}]


def test_the_result_of_a_candidate_is_never_that_of_other_code():
    trial = SimpleNamespace(fingerprint="f")
    ended = [
        EndedTrial(key=TrialKey("f", "d", code, "p"), status="finished", run_id=code, parent_run_id="search")
        for code in ("v1", "v2")
    ]
    reader = SimpleNamespace(ended_trials=lambda *_: ended, read_result=lambda run_id: run_id)
    for code, expected in (("v1", "v1"), ("v2", "v2"), ("v3", None)):
        trial_store = SimpleNamespace(key=lambda _, code=code: TrialKey("f", "d", code, "p"))
        context = SimpleNamespace(store=SimpleNamespace(reader=reader))
        stage = TuningStage(
            study_run=SimpleNamespace(trial_store=trial_store, context=context),
            stage_runner=SimpleNamespace(reuse="matching"),
            tuning=TUNING,
        )
        assert stage._read_logged_result(trial) == expected
