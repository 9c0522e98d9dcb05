"""The answer under tuned recipes: beside the shared one, and only where every arm was tuned alike."""

import ast
import itertools
import re
from dataclasses import replace

import numpy as np
import pytest

from reports.analysis.tuning_budgets import expected_best_errors, to_tuned_record
from reports.comparison.comparison import compare_arms, unresolved
from reports.content.report import report_sections
from reports.figures.study import report_figures
from reports.pages.study import render_documents
from studies.cli.running.run import print_failed_trials
from studies.design.tuning import TuningBudget
from studies.runner.tuning_stage import describe_round
from tests.reports.records import DECAY, RATE, SPACE, record, tuned

TUNINGS = {
    "random": TuningBudget(trials=8, space=SPACE),
    "two tuning seeds": TuningBudget(trials=4, space=SPACE, seeds=(1_000_000, 1_000_001)),
    "halving": TuningBudget(trials=8, space=SPACE, pruning="halving"),
    "tpe": TuningBudget(trials=8, space=SPACE, sampler="tpe"),
}


def with_candidates(study, change):
    """A study whose candidates are others; ``change`` gives one, several or none for each."""
    changed = tuple(fit for each in study.tuning.candidates for fit in change(each))
    return replace(study, tuning=replace(study.tuning, candidates=changed))


@pytest.mark.parametrize("tuning", TUNINGS.values(), ids=TUNINGS)
def test_equal_budgets_give_a_second_answer_and_a_ledger(tuning):
    found = compare_arms(tuned(tuning=tuning))
    assert found.tuned.tuning_summary.refusal_reasons == ()
    assert found.tuned.comparison is not None
    for budget in found.tuned.tuning_summary.arms:
        assert (budget.num_candidates, budget.assigned_epochs) == (tuning.trials, tuning.total_epochs(30))


def test_both_answers_stand_side_by_side():
    """B is better under the shared recipe; once A is tuned, A is."""
    found = compare_arms(tuned())
    assert [claim.word for claim in found.claims] == ["supported"]
    assert [claim.word for claim in found.tuned.comparison.claims] == ["contradicted"]
    assert found.claims[0].under_tuning == (
        "With every arm's recipe tuned alike: contradicted. The verdict depends on the recipes."
    )
    section = next(each for each in report_sections(found, ()) if each.name == "tuning")
    assert "1 of 1 verdict depends on the recipe: B improves on A in test error." in " ".join(section.paragraphs)
    assert [table.name for table in section.tables] == ["answers", "verdicts", "ledger", "chosen", "importance"]


def test_an_answer_that_does_not_depend_on_the_recipes_is_said_so():
    found = compare_arms(tuned(gain=0.0))
    assert found.claims[0].under_tuning == "With every arm's recipe tuned alike: supported as well."


UNEQUAL = {
    "a candidate less": (lambda fit: [] if (fit.arm, fit.number) == ("B", 3) else [fit], "B has 7 candidates of 8"),
    "a candidate more": (
        lambda fit: [fit, replace(fit, number=8)] if (fit.arm, fit.number) == ("A", 3) else [fit],
        "A has 9 candidates of 8",
    ),
    "fewer epochs": (
        lambda fit: [replace(fit, epochs=15) if (fit.arm, fit.number) == ("A", 3) else fit],
        "A has 8 candidates of 8 and 225 epochs of 240",
    ),
    "a further rung": (
        lambda fit: [fit, replace(fit, rung=1)] if (fit.arm, fit.number) == ("A", 3) else [fit],
        "A has candidates beyond the last rung",
    ),
    "one that runs": (
        lambda fit: [replace(fit, state="running") if (fit.arm, fit.number) == ("A", 3) else fit],
        "The tuning budgets are not those that were registered",
    ),
    "a seed of the comparison": (
        lambda fit: [replace(fit, seed=4)],
        "Tuning and comparison share seed 4, so there is no answer under tuned recipes.",
    ),
    "the test part": (
        lambda fit: [replace(fit, has_test_metrics=fit.arm == "B")],
        "Candidates of B were evaluated on the test split, so there is no answer under tuned recipes.",
    ),
}


@pytest.mark.parametrize(("change", "told"), UNEQUAL.values(), ids=UNEQUAL)
def test_a_planted_unequal_budget_is_refused(change, told):
    found = compare_arms(with_candidates(tuned(), change))
    assert found.tuned.comparison is None
    assert any(told in caution for caution in found.cautions)
    assert found.claims[0].under_tuning == ""
    assert found.claims[0].word == "supported", "the answer under the shared recipe stays"
    text = render_documents(found, report_figures(found))["report.md"]
    assert "Tuning budget" in text
    assert "Results under the shared recipe and with per-arm tuning" not in text


def test_an_unequal_rung_is_refused():
    study = with_candidates(
        tuned(tuning=TUNINGS["halving"]),
        lambda fit: [] if (fit.arm, fit.rung) == ("B", 2) and fit.validation_error > 9.4 else [fit],
    )
    refused = compare_arms(study).tuned.tuning_summary.refusal_reasons
    assert "B has 1 candidate of 2 and 30 epochs of 60 on rung 3" in refused[0]


def test_failed_and_diverged_candidates_count_as_spent():
    study = with_candidates(
        tuned(),
        lambda fit: [
            replace(fit, state=("failed", "at chance")[fit.number % 2], epochs_trained=3, validation_error=float("nan"))
            if fit.arm == "A" and fit.number > 4
            else fit
        ],
    )
    budget = compare_arms(study).tuned.tuning_summary.arms[0]
    assert (budget.num_candidates, budget.assigned_epochs, budget.trained_epochs) == (8, 240, 5 * 30 + 3 * 3)
    assert (budget.num_failed, budget.num_at_chance) == (1, 2)
    assert compare_arms(study).tuned.comparison is not None


def test_an_arm_without_a_recipe_is_named():
    study = tuned()
    chosen = {arm: values for arm, values in study.tuning.best_values.items() if arm == "A"}
    found = compare_arms(replace(study, tuning=replace(study.tuning, best_values=chosen)))
    assert "Tuning has found no recipe for B" in found.tuned.tuning_summary.refusal_reasons[0]


def test_the_tuned_study_tells_what_each_arm_was_given():
    study = tuned()
    registration = to_tuned_record(study, study.tuning).registration
    assert set(registration.varies) >= {RATE, DECAY}
    before, after = study.tuning.best_values["A"][RATE], study.tuning.best_values["B"][RATE]
    told = [(change.before, change.after) for change in registration.changes["B"] if change.path == RATE]
    assert told == ([(before, after)] if before != after else [])


def test_a_claim_is_open_while_either_answer_leaves_it_open():
    decided, tuned_apart = tuned(), tuned(gain=0.82)
    assert unresolved(decided) == ()
    assert [claim.word for claim in compare_arms(tuned_apart).claims] == ["supported"]
    assert unresolved(tuned_apart) == ("B improves on A in test error.",)
    assert unresolved(record(("A", "B"), 5, claims=decided.registration.claims)) == ()


def test_the_shared_recipe_is_no_candidate_of_a_space_that_leaves_it_out():
    inside = tuned()
    rate, decay = inside.registration.tuning.space
    errors = []
    for low in (rate.low, 0.1):  # the shared rate is 0.05
        tuning = replace(inside.registration.tuning, space=(replace(rate, low=low), decay))
        study = replace(inside, registration=replace(inside.registration, tuning=tuning))
        errors.append(compare_arms(study).tuned.tuning_summary.arms[0].shared_recipe_error)
    assert np.isfinite(errors[0])
    assert np.isnan(errors[1])


def test_a_trial_that_failed_under_its_tuned_recipe_is_among_those_that_failed(capsys):
    study = tuned()
    first = replace(study.tuning.trials[0], run_id="tuned", state="failed", recipe="tuned")
    also_shared = replace(study.trials[0], state="failed")
    shown_twice = replace(also_shared, recipe="tuned")  # an arm that is tuned to the shared recipe
    tuning = replace(study.tuning, trials=(first, shown_twice, *study.tuning.trials[1:]))
    failing = replace(study, trials=(also_shared, *study.trials[1:]), tuning=tuning)
    assert failing.failed_trials == (also_shared, first)
    assert print_failed_trials(failing) == [also_shared, first]
    assert f"{first.arm}, seed {first.seed} failed under its tuned recipe: " in capsys.readouterr().err


def test_the_expected_best_is_the_mean_over_all_draws():
    errors = [9.0, 3.0, 7.0, 4.0]
    for draws, found in enumerate(expected_best_errors(errors), 1):
        every = [min(drawn) for drawn in itertools.product(errors, repeat=draws)]
        assert found == pytest.approx(np.mean(every))


def test_of_no_candidates_nothing_is_expected():
    """As before the first candidate of a search has ended."""
    assert expected_best_errors([]) == ()


def test_the_search_is_drawn_and_the_ledger_is_a_table():
    found = compare_arms(tuned())
    made = render_documents(found, report_figures(found))
    assert "search" in [figure.name for figure in report_figures(found)]
    header, first, *_ = made["tuning.csv"].splitlines()
    assert {"arm", "candidate", "rung", "seed", "epochs", "state"} <= set(header.split(","))
    assert len(made["tuning.csv"].splitlines()) == 1 + 16
    assert first.startswith("A,")
    for file in ("report.md", "report.tex"):
        assert "Tuning by arm" in made[file]


def test_the_ledger_counts_outcomes_beside_trials_and_candidates_alone():
    found = compare_arms(tuned(tuning=TUNINGS["halving"]))
    (section,) = [section for section in report_sections(found, ()) if section.name == "tuning"]
    (ledger,) = [table for table in section.tables if table.name == "ledger"]
    titles = [column.title for column in ledger.columns]
    assert titles[-4:] == ["Trials", "Non-finite", "At chance", "Failed"]
    assert [column.unit for column in ledger.columns][-2:] == ["trials", "trials"]
    row = dict(zip(titles, (cell.text for cell in ledger.rows[0]), strict=True))
    assert row["Candidates"] == "8"
    assert int(row["Trials"]) > 8  # those on the second rung as well


def test_batches_of_tpe_are_no_rungs():
    assert describe_round(TUNINGS["tpe"], 0, 2) == "tuning, batch 2 of candidates"
    assert describe_round(TUNINGS["random"], 0, 1) == "tuning"
    assert describe_round(TUNINGS["halving"], 1, 1).startswith("tuning, rung 2 of ")


def test_the_steps_to_the_tuned_recipe_can_be_copied():
    study = tuned()
    section = next(each for each in report_sections(compare_arms(study), ()) if each.name == "tuning")
    (table,) = [table for table in section.tables if table.name == "chosen"]
    edits = re.search(r"\*\*EDITS, (.*?)\}\)\)", table.notes[1])[1]
    assert ast.literal_eval(f"{{{edits}}}") == study.tuning.best_values["A"]
