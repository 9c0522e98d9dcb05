"""Tuning as declared and searched: equal budgets by construction. Optuna is real; what trains is a formula."""

import itertools
import math
import random
from collections import Counter
from dataclasses import replace

import numpy as np
import optuna
import pytest

from ablations import Times
from lightning_modules.specs.errors import DamagedFileError, InvalidValue, UserError
from lightning_modules.specs.values import edit_field, flatten_fields
from studies.design.declare import declare, declare_tuning
from studies.design.trial import Trial
from studies.design.tuning import Choice, Range, TuningBudget, parse_dimension
from studies.records.results import Result
from studies.runner.optuna_search import ArmSearch
from studies.runner.tuner import Tuner

EPOCHS = 8
RATE, DECAY = "recipe.learning_rate", "recipe.weight_decay"
GRID = (Choice(path=RATE, values=(0.01, 0.02, 0.04)), Choice(path=DECAY, values=(0.0, 1e-4)))
TUNINGS = {
    "random": TuningBudget(trials=8),
    "two seeds": TuningBudget(trials=4, seeds=(1_000_000, 1_000_001)),
    "tpe": TuningBudget(trials=10, sampler="tpe"),
    "grid": TuningBudget(trials=6, sampler="grid", space=GRID),
    "halving": TuningBudget(trials=8, pruning="halving"),
    "halving by three": TuningBudget(trials=9, pruning="halving", rungs=2, reduction=3),
}


def setups_of(small, arms=("first", "second")):
    """Two arms that differ in what no tuning touches, of eight epochs."""
    small = replace(small, recipe=replace(small.recipe, epochs=EPOCHS))
    return {
        arm: replace(small, scale=replace(small.scale, width=0.0625 * (1 + place))) for place, arm in enumerate(arms)
    }


def formula(fit):
    """A validation error that depends on the recipe, on the arm and on the length."""
    distance = math.log(fit.setup.recipe.learning_rate / 0.03) + 3 * fit.setup.scale.width
    return 5 + 3 * abs(distance) + 20 / fit.setup.recipe.epochs


class Trained:
    """Fits that were asked for, and their outcomes by a formula."""

    def __init__(self, error=formula, status=lambda _: "finished"):
        self.error, self.status, self.fits = error, status, []

    def __call__(self, fit):
        self.fits.append(fit)
        status = self.status(fit)
        metrics = {"validation_error": self.error(fit), "validation_loss": 1.0} if status == "finished" else {}
        nothing = {"curves": {}, "times": (), "cost": {}, "environment": {}, "evidence": {}}
        return Result(fingerprint=fit.fingerprint, digests={}, status=status, metrics=metrics, **nothing)


def tuner_of(tuning, small, folder, trained):
    setups = setups_of(small)
    declared = tuning.resolve_for_study(setups, ["scale.width"])
    searches = {arm: ArmSearch(declared, setup, folder / "journal.log", arm) for arm, setup in setups.items()}
    return Tuner(declared, setups, searches, trained)


def run_to_the_end(tuner):
    return list(tuner.rounds())


def budgets(fits):
    """Per arm: how many different candidates, fits and epochs."""
    found = {}
    for fit in fits:
        found.setdefault(fit.arm, []).append(fit)
    return {
        arm: (len({fit.candidate for fit in several}), len(several), sum(fit.setup.recipe.epochs for fit in several))
        for arm, several in found.items()
    }


# -- declarations ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"trials": 1}, "two candidates or more"),
        ({"space": ()}, "at least one dimension"),
        ({"seeds": ()}, "different seeds"),
        ({"seeds": (1, 1)}, "different seeds"),
        ({"space": (Range(path="recipe.epochs", low=1, high=5),)}, "the epochs are the budget"),
        ({"space": (Range(path="scale.width", low=0.1, high=5),)}, "expected a path of the recipe"),
        ({"space": (Range(path=RATE, low=1, high=5), Choice(path=RATE, values=(1, 2)))}, "names a path twice"),
        ({"sampler": "tpe", "pruning": "halving"}, "Choose the sampler random, or the pruning none"),
        ({"sampler": "grid"}, "Give it as path=a,b,c"),
        ({"sampler": "grid", "space": GRID, "trials": 5}, "6, the points of the grid"),
        ({"sampler": "bayes"}, "sampler"),
    ],
)
def test_what_cannot_be_run_as_declared_is_refused(fields, text):
    with pytest.raises(InvalidValue, match=text):
        TuningBudget(**{"trials": 8} | fields)


@pytest.mark.parametrize(
    ("dimension", "text"),
    [
        (Range(path=RATE, low=0.1, high=0.01), "an upper bound above the lower one"),
        (Range(path=RATE, low=0.0, high=0.1), "both above 0 on a logarithmic scale"),
        (Range(path="recipe.momentum", low=0.5, high=3, log=False), "momentum is 3"),
        (Choice(path="recipe.schedule", values=("cosine",)), "expected two or more"),
        (Choice(path="recipe.schedule", values=("cosine", "cosin")), "Did you mean"),
        (Range(path="recipe.rate", low=0.1, high=0.2), "no setting of the study's recipe"),
        (Range(path="recipe.batch_size", low=16, high=64), "is what the study varies"),
    ],
)
def test_a_space_that_the_study_does_not_take_is_refused(dimension, text, small):
    with pytest.raises(InvalidValue, match=text):
        TuningBudget(trials=4, space=(dimension,)).resolve_for_study({"A": small}, ["recipe.batch_size"])


@pytest.mark.parametrize(
    "dimension",
    [
        Choice(path="recipe.remainder", values=("keep", "drop")),
        Choice(path="recipe.compiled", values=(False, True)),
    ],
)
def test_a_setting_that_is_left_out_at_its_default_can_be_tuned(dimension, small, tmp_path):
    tuning = TuningBudget(trials=3, space=(dimension,)).resolve_for_study({"A": small}, [])
    trained = Trained()
    run_to_the_end(tuner_of(tuning, small, tmp_path, trained))
    first = next(fit for fit in trained.fits if fit.candidate == 0)
    assert first.setup.recipe == replace(small.recipe, epochs=EPOCHS)  # the shared recipe, which has the default
    other = edit_field(small, dimension.path, dimension.values[1])
    with pytest.raises(InvalidValue, match="is what the study varies"):
        tuning.resolve_for_study({"A": small, "B": other}, [])


def test_bounds_are_multiples_of_the_shared_recipe(small):
    found = TuningBudget(trials=4).resolve_for_study({"A": small}, [])
    assert [dimension.bounds for dimension in found.space] == [(0.004, 0.1), (5e-5, 5e-3)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("recipe.learning_rate=0.01..0.1", Range(path=RATE, low=0.01, high=0.1)),
        ("recipe.learning_rate=x0.2..x5", Range(path=RATE, low=Times(0.2), high=Times(5))),
        ("recipe.momentum=0.5..0.99:linear", Range(path="recipe.momentum", low=0.5, high=0.99, log=False)),
        ("recipe.batch_size=32,64", Choice(path="recipe.batch_size", values=(32, 64))),
        ("recipe.schedule=step,cosine", Choice(path="recipe.schedule", values=("step", "cosine"))),
    ],
)
def test_a_dimension_is_read_as_written(text, expected, small):
    assert parse_dimension(text, small) == expected


@pytest.mark.parametrize(
    "text", ["recipe.momentum", "recipe.momentum=0.5", "recipe.momentum=a..b", "recipe.momentm=1..2"]
)
def test_a_dimension_that_cannot_be_read_is_one_clear_line(text, small):
    with pytest.raises(UserError):
        parse_dimension(text, small)


def test_a_default_space_leaves_out_what_the_study_varies():
    study = declare("weight_decay", tuning=4)
    assert study.tuning.paths == (RATE,)
    assert "weight_decay" not in declare_tuning("weight_decay", "digits", {}, trials=4).description


def test_a_space_that_names_what_the_study_varies_is_refused():
    with pytest.raises(InvalidValue, match="is what the study varies"):
        declare("weight_decay", tuning=TuningBudget(trials=4, space=(Range(path=DECAY, low=1e-5, high=1e-3),))).setups()


SIDES = [Range(path="recipe.side_from", low=1, high=2), Range(path="recipe.side_to", low=2, high=3)]


@pytest.mark.parametrize(
    "space",
    [
        (Choice(path="recipe.augmentation", values=("shift", "crop-flip")),),
        (SIDES[0],),
        (Choice(path="recipe.augmentation", values=("crop-flip", "none")), *SIDES),
        (
            Choice(path="recipe.augmentation", values=("crop-flip", "crop-flip-colour")),
            SIDES[0],
            replace(SIDES[1], low=1.5),
        ),
    ],
)
def test_a_space_of_candidates_that_an_arm_does_not_admit_is_refused(space, small):
    other = replace(small, scale=replace(small.scale, width=0.125))
    with pytest.raises(InvalidValue, match="the space has candidates that A does not admit: Recipe"):
        TuningBudget(trials=4, space=space).resolve_for_study({"A": small, "B": other}, [])


def test_settings_that_agree_in_every_combination_can_be_tuned_together(small):
    space = (Choice(path="recipe.augmentation", values=("crop-flip", "crop-flip-colour")), *SIDES)
    assert TuningBudget(trials=4, space=space).resolve_for_study({"A": small}, []).space == space


def test_what_is_trained_cannot_be_tuned():
    space = (Choice(path="recipe.trains", values=("network", "linear classifier")),)
    with pytest.raises(InvalidValue, match=r"recipe\.trains cannot be tuned; expected another setting"):
        declare("lrn", tuning=TuningBudget(trials=2, space=space))


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_tuning_seed_has_the_bounds_of_other_seeds(seed):
    with pytest.raises(InvalidValue, match=rf"tuning seeds are \[{seed}\]; expected different whole numbers from 0 up"):
        declare("lrn", tuning=TuningBudget(trials=2, seeds=(seed,)))


@pytest.mark.parametrize("seeds", [(0, 7), (7,)])
def test_tuning_and_comparison_share_no_seed(seeds):
    with pytest.raises(InvalidValue, match="7"):
        declare("lrn", seeds=(7, 8), tuning=TuningBudget(trials=2, seeds=seeds))


def test_a_schedule_says_its_trials_and_epochs_beforehand():
    rungs = [(rung.num_candidates, rung.epochs_per_candidate(30)) for rung in TUNINGS["halving"].rung_schedule]
    assert rungs == [(8, 8), (4, 15), (2, 30)]
    assert TUNINGS["halving"].total_epochs(30) == 8 * 8 + 4 * 15 + 2 * 30
    assert "8 candidates for 25% of the epochs, then the best 4 for 50%" in TUNINGS["halving"].description


def test_rungs_that_do_not_grow_are_refused(small):
    """Two rungs of one length would be one trial, counted twice."""
    with pytest.raises(
        InvalidValue, match=r"the 2 epochs of A are too few for 3 rungs: these would have 1, 1, 2 epochs"
    ):
        TUNINGS["halving"].resolve_for_study({"A": small}, [])


# -- the search --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TUNINGS)
def test_every_arm_gets_the_same_trials_and_epochs(name, small, tmp_path):
    trained, tuning = Trained(), TUNINGS[name]
    run_to_the_end(tuner_of(tuning, small, tmp_path, trained))
    found = budgets(trained.fits)
    assert set(found) == {"first", "second"}
    fits = len(tuning.seeds) * sum(rung.num_candidates for rung in tuning.rung_schedule)
    assert set(found.values()) == {(tuning.trials, fits, tuning.total_epochs(EPOCHS))}


@pytest.mark.parametrize("name", TUNINGS)
def test_failures_and_divergence_cost_what_success_costs(name, small, tmp_path):
    """One arm loses every second candidate: its budget stays that of the other one."""

    def status(fit):
        return (
            ("failed", "at chance")[fit.candidate % 4 // 2] if fit.arm == "first" and fit.candidate % 2 else "finished"
        )

    trained, tuning = Trained(status=status), TUNINGS[name]
    tuner = tuner_of(tuning, small, tmp_path, trained)
    run_to_the_end(tuner)
    assert len(set(budgets(trained.fits).values())) == 1
    assert tuner.best_candidate("first").number % 2 == 0


@pytest.mark.parametrize("name", TUNINGS)
@pytest.mark.parametrize("killed_after", [1, 3, 7])
def test_a_search_that_was_cut_off_goes_on_as_it_would_have_gone(name, killed_after, small, tmp_path):
    """The driver dies after so many outcomes; the next one finds the journal, and the ended fits, and asks no more."""

    class Killed(Exception):
        pass

    def dying(fit):
        if len(lost.fits) > killed_after:
            raise Killed
        return formula(fit)

    whole, lost, again = Trained(), Trained(error=dying), Trained()
    (tmp_path / "whole").mkdir()
    once = tuner_of(TUNINGS[name], small, tmp_path / "whole", whole)
    run_to_the_end(once)
    with pytest.raises(Killed):
        run_to_the_end(tuner_of(TUNINGS[name], small, tmp_path, lost))
    resumed = tuner_of(TUNINGS[name], small, tmp_path, again)
    run_to_the_end(resumed)
    assert [fit.fingerprint for fit in again.fits] == [fit.fingerprint for fit in whole.fits]
    assert {arm: resumed.best_candidate(arm) for arm in ("first", "second")} == {
        arm: once.best_candidate(arm) for arm in ("first", "second")
    }


@pytest.mark.parametrize("name", ["random", "tpe", "halving"])
def test_the_first_candidate_is_the_shared_recipe(name, small, tmp_path):
    trained = Trained()
    run_to_the_end(tuner_of(TUNINGS[name], small, tmp_path, trained))
    first = next(fit for fit in trained.fits if fit.candidate == 0)
    assert (first.setup.recipe.learning_rate, first.setup.recipe.weight_decay) == (0.02, small.recipe.weight_decay)


def test_random_arms_try_the_same_recipes_and_tpe_learns(small, tmp_path):
    rates = {}
    for name in ("random", "tpe"):
        trained = Trained()
        (tmp_path / name).mkdir()
        run_to_the_end(tuner_of(TUNINGS[name], small, tmp_path / name, trained))
        for arm in ("first", "second"):
            rates[name, arm] = [fit.setup.recipe.learning_rate for fit in trained.fits if fit.arm == arm]
    assert rates["random", "first"] == rates["random", "second"]
    assert rates["tpe", "first"][:4] == rates["tpe", "second"][:4]
    assert rates["tpe", "first"][4:] != rates["tpe", "second"][4:]


def test_a_grid_is_every_combination_once(small, tmp_path):
    trained = Trained()
    run_to_the_end(tuner_of(TUNINGS["grid"], small, tmp_path, trained))
    points = {(fit.setup.recipe.learning_rate, fit.setup.recipe.weight_decay) for fit in trained.fits}
    assert points == {(rate, decay) for rate in GRID[0].values for decay in GRID[1].values}


def test_the_best_candidate_is_the_one_of_the_lowest_error(small, tmp_path):
    trained = Trained()
    tuner = tuner_of(TUNINGS["random"], small, tmp_path, trained)
    run_to_the_end(tuner)
    for arm in ("first", "second"):
        best = min((fit for fit in trained.fits if fit.arm == arm), key=formula)
        assert tuner.best_candidate(arm).number == best.candidate
        assert tuner.best_errors(arm)[-1] == formula(best)
        assert list(tuner.best_errors(arm)) == sorted(tuner.best_errors(arm), reverse=True)


def test_halving_keeps_the_better_ones_of_each_arm(small, tmp_path):
    trained = Trained()
    rounds = run_to_the_end(tuner_of(TUNINGS["halving"], small, tmp_path, trained))
    for arm in ("first", "second"):
        by_rung = [
            sorted((formula(fit), fit.candidate) for fit in each.arms_by_trial if fit.arm == arm) for each in rounds
        ]
        for earlier, later in itertools.pairwise(by_rung):
            assert {number for _, number in later} == {number for _, number in earlier[: len(later)]}


def test_an_arm_that_finds_nothing_has_no_recipe(small, tmp_path):
    trained = Trained(status=lambda fit: "failed" if fit.arm == "second" else "finished")
    tuner = tuner_of(TUNINGS["random"], small, tmp_path, trained)
    run_to_the_end(tuner)
    assert tuner.best_candidate("second") is None
    assert tuner.best_candidate("first") is not None


def test_telling_an_outcome_twice_counts_once(small, tmp_path):
    tuning = TUNINGS["random"].resolve_for_study({"A": small}, [])
    for _ in range(2):
        search = ArmSearch(tuning, small, tmp_path / "journal.log", "A")
        for candidate in search.first_candidates(tuning.trials):
            search.tell(candidate.number, 10.0 + candidate.number)
    assert len(search.study.trials) == tuning.trials
    assert {trial.state for trial in search.study.trials} == {optuna.trial.TrialState.COMPLETE}


def test_importance_is_optunas_and_needs_enough_candidates(small, tmp_path):
    tuning = TuningBudget(trials=16).resolve_for_study({"A": small}, [])
    search = ArmSearch(tuning, small, tmp_path / "journal.log", "A")
    candidates = search.first_candidates(16)
    for candidate in candidates[:7]:
        search.tell(candidate.number, abs(np.log(candidate.values[RATE] / 0.02)))
    assert search.parameter_importance() == {}
    for candidate in candidates[7:]:
        search.tell(candidate.number, abs(np.log(candidate.values[RATE] / 0.02)))
    found = search.parameter_importance()
    assert set(found) == {RATE, DECAY}
    assert found[RATE] > 0.7
    assert sum(found.values()) == pytest.approx(1)


# -- what a candidate is -----------------------------------------------------------------------------------------------


def test_a_candidate_is_another_trial_than_a_fit_that_is_compared(small):
    fit, candidate = Trial(arm="A", setup=small, seed=1), Trial(arm="A", setup=small, seed=1, candidate=0)
    assert fit.fingerprint != candidate.fingerprint
    assert candidate.is_candidate
    assert not fit.is_candidate


def test_the_contract_allows_the_tuned_paths_and_no_other():
    ablation = declare("lrn", tuning=2).ablation
    setups = declare("lrn", tuning=2).setups()
    tuned = ablation.tuned_setups(setups, {"A": {RATE: 0.01}, "A-LRN": {RATE: 0.05}})
    assert [setup.recipe.learning_rate for setup in tuned.values()] == [0.01, 0.05]
    leaves = {arm: flatten_fields(setup) for arm, setup in tuned.items()}
    moved = {path for path in leaves["A"] if leaves["A"][path] != leaves["A-LRN"].get(path)}
    assert RATE in moved
    for chosen in ({"A": {RATE: 0.01}}, {"A": {RATE: 0.01}, "A-LRN": {DECAY: 0.1}}):
        with pytest.raises(ValueError, match="tuned"):
            ablation.tuned_setups(setups, chosen)


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_damaged_journal_is_refused_or_read_up_to_a_line_that_was_cut_off(small, tmp_path, sampler):
    tuning = TUNINGS[sampler].resolve_for_study({"A": small}, [])
    journal = tmp_path / "journal.log"
    search = ArmSearch(tuning, small, journal, "A")
    candidates = search.first_candidates(4)
    for candidate in candidates:
        search.tell(candidate.number, 10.0 + candidate.number)
    content, chance = journal.read_bytes(), random.Random(0)
    outcomes = Counter()
    for _ in range(100):
        damaged = bytearray(content)
        if chance.random() < 0.7:
            damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        else:
            del damaged[chance.randrange(len(damaged)) :]
        journal.write_bytes(damaged)
        outcomes[_reopen(tuning, small, journal, candidates)] += 1
    assert outcomes["refused"] > 50
    assert outcomes["resumed"] > 5


def _reopen(tuning, small, journal, candidates):
    try:
        resumed = ArmSearch(tuning, small, journal, "A")
    except DamagedFileError:
        return "refused"
    assert resumed.first_candidates(len(candidates)) == candidates
    return "resumed"
