"""A warm start is a dependency between trials: its donor first, its weights by name, its epochs charged."""

from dataclasses import replace

import pytest
import torch

import ablations
import studies
from ablations import Ablation, Arm
from lightning_modules.specs.catalogue import VGG_A, VGG_D
from lightning_modules.specs.errors import InvalidValue, UserError
from lightning_modules.specs.scale import Scale
from lightning_modules.specs.setup import Scratch, Setup, WarmStart
from studies import protocols
from studies.console.preview import _print_warm_starts
from studies.design.declare import declare
from studies.design.preview import preview_study
from studies.design.study import Study, sort_longest_first
from studies.design.trial import Trial, dependency_chain, dependency_name, with_dependencies
from studies.design.verification import build_verified_networks
from studies.hardware import Machine
from studies.records.identity import EndedTrial, TrialKey
from studies.runner.reuse_plan import plan_trials, retrain_missing_weights
from studies.storage.trial_folder import TrialFolder
from studies.training.train import train_trial
from tests.studies.conftest import ONE, SHORT

DIGESTS = {"data": "d", "code": "c", "platform": "p"}
COPIED = ("stage1.conv1", "stage2.conv1", "stage3.conv1", "stage3.conv2", "head")
WARM = WarmStart(network=VGG_A, layers=COPIED)
CHAIN = replace(WARM, start=WarmStart(network=VGG_A, layers=("stage1",), recipe={"learning_rate": 0.02}))
WIDE = replace(VGG_A, stages=(replace(VGG_A.stages[0], width=96), *VGG_A.stages[1:]))
ABLATION = Ablation(
    question="Does a warm start help?",
    baseline=Arm("cold", {"network": VGG_D}),
    arms=(Arm("warm", {"network": VGG_D, "start": WARM}),),
    varies=("start",),
)


def fit_of(network=VGG_D, start=None, seed=0, arm="warm"):
    setup = Setup(network=network)
    return Trial(arm=arm, setup=replace(setup, start=start) if start else setup, seed=seed)


def test_a_donor_is_its_own_network_from_scratch_under_the_same_seed_recipe_and_data():
    fit = fit_of(start=WARM, seed=7)
    assert fit.dependencies == (Trial(arm=dependency_name("warm"), setup=Setup(network=VGG_A), seed=7),)
    assert fit.dependencies[0].dependencies == ()


def test_a_fingerprint_names_the_donor():
    other = replace(WARM, network=replace(VGG_A, init="glorot"))
    prints = {fit_of(start=start).fingerprint for start in (None, WARM, other)}
    assert len(prints) == 3
    assert fit_of(start=WARM).dependencies[0].fingerprint == fit_of(VGG_A, arm="A of another study").fingerprint


def test_donors_come_before_those_who_start_from_them_and_once():
    fewer = replace(WARM, layers=("head",))
    fits = with_dependencies([fit_of(arm="cold"), fit_of(start=WARM), fit_of(start=fewer, arm="head only")])
    assert [fit.arm for fit in fits] == ["cold", "donor of warm", "warm", "head only"]


def test_an_arm_that_is_a_donor_is_trained_once_under_its_own_name():
    fits = with_dependencies([fit_of(start=WARM), fit_of(VGG_A, arm="A")])
    assert [fit.arm for fit in fits] == ["A", "warm"]


def test_every_seed_of_a_study_has_its_donor():
    study = declare("initialization", seeds=(0, 1))
    assert study.source_arms == {"warm start": "donor of warm start"}
    assert len(study.trials()) == 2 * (7 + 1)


def planned(trained, *, weights):
    """A plan for a cold arm, a warm one and its donor, of which some have been recorded."""
    fits = with_dependencies([fit_of(arm="cold"), fit_of(start=WARM)])
    ended = [
        EndedTrial(
            key=TrialKey(fit.fingerprint, "d", "c", "p"), status="finished", run_id=fit.arm, parent_run_id="mine"
        )
        for fit in fits
        if fit.arm in trained
    ]
    todo = plan_trials(fits, lambda fit: TrialKey(fit.fingerprint, "d", "c", "p"), ended, lambda _: False, "mine")
    return {fit.arm for fit in retrain_missing_weights(todo, lambda _: weights).to_train}


@pytest.mark.parametrize(
    ("trained", "weights", "left"),
    [
        ({"cold", "warm", "donor of warm"}, False, set()),  # nobody needs the donor's weights any more
        ({"cold", "donor of warm"}, True, {"warm"}),
        ({"cold", "donor of warm"}, False, {"warm", "donor of warm"}),  # recorded, perhaps elsewhere, but not at hand
        ({"cold"}, False, {"warm", "donor of warm"}),
    ],
)
def test_a_donor_is_trained_again_only_where_its_weights_are_needed_and_lost(trained, weights, left):
    assert planned(trained, weights=weights) == left


def test_a_trial_starts_from_its_donors_final_weights(small, digits, tmp_path):
    setup = replace(small, network=VGG_D, start=WARM)
    fit = Trial(arm="warm", setup=setup, seed=0)
    options = {"digests": DIGESTS, "machine": Machine()}
    train_trial(fit.dependencies[0], digits, tmp_path / "donor", **options)
    result = train_trial(fit, digits, tmp_path / "warm", dependency_folders=[tmp_path / "donor"], **options)
    cold = train_trial(
        Trial(arm="cold", setup=replace(small, network=VGG_D), seed=0), digits, tmp_path / "cold", **options
    )
    assert result.evidence["donor"] == fit.dependencies[0].fingerprint
    assert result.evidence["copied"].split(",") == [*COPIED[:-1], "head.fc1", "head.fc2", "head.fc3"]
    same = {
        name.removeprefix("weights."): value == cold.evidence[name]
        for name, value in result.evidence.items()
        if name.startswith("weights.")
    }
    assert {place for place, equal in same.items() if not equal} == set(result.evidence["copied"].split(","))
    trained = torch.load(tmp_path / "donor" / "weights.pt", weights_only=True)
    assert "stage1.conv1.weight" in trained


def test_a_trial_without_its_donors_weights_fails_and_says_so(small, digits, tmp_path):
    fit = Trial(arm="warm", setup=replace(small, network=VGG_D, start=WARM), seed=3)
    result = train_trial(
        fit, digits, tmp_path / "warm", digests=DIGESTS, machine=Machine(), dependency_folders=[tmp_path / "nothing"]
    )
    assert result.status == "failed"
    assert "the donor of warm, under seed 3, left no weights to start from" in result.error


def test_a_donor_may_start_from_a_donor_of_its_own():
    fit = fit_of(start=CHAIN, seed=7)
    first, second, last = with_dependencies([fit])
    assert [each.arm for each in (first, second, last)] == ["donor of donor of warm", "donor of warm", "warm"]
    assert (first.setup.start, first.setup.recipe.learning_rate) == (Scratch(), 0.02)
    assert (second.setup.start, second.setup.recipe) == (CHAIN.start, last.setup.recipe)
    assert second.setup != fit_of(start=WARM, seed=7).dependencies[0].setup
    assert fit_of(start=WARM).fingerprint != fit_of(start=CHAIN).fingerprint


def test_a_chain_goes_from_its_first_donor_to_the_costliest_who_waits():
    fits = with_dependencies([fit_of(arm="cold"), fit_of(start=CHAIN)])
    costs = {"cold": 4, "warm": 4, "donor of warm": 1, "donor of donor of warm": 1}
    ordered = [fit.arm for fit in sort_longest_first(fits, costs)]
    assert ordered == ["donor of donor of warm", "donor of warm", "cold", "warm"]


def test_a_setting_of_every_network_reaches_every_donor_of_a_chain():
    arm = Arm("warm", {"network": VGG_D, "start": CHAIN})
    setup = arm.apply(Setup(network=VGG_A), {"network.activation": "gelu"})
    assert [fit.setup.network.activation for fit in with_dependencies([Trial(arm="warm", setup=setup, seed=0)])] == [
        "gelu"
    ] * 3


def test_a_candidates_chain_is_its_own():
    fits = with_dependencies([replace(fit_of(start=CHAIN), candidate=3)])
    assert [fit.candidate for fit in fits] == [3, 3, 3]
    assert dependency_chain(fits[-1]) == fits


@pytest.mark.slow
@pytest.mark.xdist_group("warm start")
def test_a_chain_of_warm_starts_runs_through_and_is_charged_and_shown(tmp_path, monkeypatch, one_ray):
    chain = replace(ABLATION, arms=(Arm("warm", {"network": VGG_D, "start": CHAIN}),))
    monkeypatch.setattr(ablations, "load", lambda _: chain)
    record = studies.run("warm", seeds=1, overrides=SHORT, runs=tmp_path, resources=ONE, quiet=True, say=lambda _: None)
    donor, first = "donor of warm", "donor of donor of warm"
    assert record.registration.donors == {"warm": donor, donor: first}
    assert record.registration.donor_epochs == {"warm": 4, donor: 2}
    assert record.registration.source_chain("warm") == (donor, first)
    assert {trial.arm for trial in record.trials} == {"cold", "warm", donor, first}
    for later, before in (("warm", donor), (donor, first)):
        assert record.find_trial(later, 0).result.evidence["donor"] == record.find_trial(before, 0).result.fingerprint
    assert record.find_trial(donor, 0).result.evidence["copied"] == "stage1.conv1"
    shown = preview_study(declare("warm", seeds=1, overrides=SHORT))
    assert (shown.num_trials, shown.source_arms) == (4, record.registration.donors)


def test_a_chain_is_shown_in_the_line_of_its_arm(capsys):
    _print_warm_starts(["cold", "warm"], {"donor of warm": "donor of donor of warm", "warm": "donor of warm"})
    chain = "warm starts from its source network, which starts from a source network of its own"
    expected = f"source   {chain}, trained first under the same seed, all charged to it\n"
    assert capsys.readouterr().out == expected


@pytest.mark.xdist_group("warm start")
@pytest.mark.slow
def test_a_study_with_a_warm_start_runs_through_and_takes_its_donor_over(tmp_path, monkeypatch, one_ray):
    monkeypatch.setattr(ablations, "load", lambda _: ABLATION)
    record = studies.run("warm", seeds=2, overrides=SHORT, runs=tmp_path, resources=ONE, quiet=True, say=lambda _: None)
    assert record.registration.donors == {"warm": "donor of warm"}
    assert record.registration.donor_epochs == {"warm": 2}
    arms = {(trial.arm, trial.seed) for trial in record.trials}
    assert arms == {(arm, seed) for arm in ("cold", "warm", "donor of warm") for seed in (0, 1)}
    for seed in (0, 1):
        warm, donor = record.find_trial("warm", seed), record.find_trial("donor of warm", seed)
        assert warm.result.evidence["donor"] == donor.result.fingerprint
    forget_weights(tmp_path, record, "donor of warm")
    news = []
    again = studies.run("warm", seeds=2, overrides=SHORT, runs=tmp_path, resources=ONE, quiet=True, say=news.append)
    assert "nothing to train: all 6 trials have ended" in news
    assert {trial.run_id for trial in again.trials} == {trial.run_id for trial in record.trials}


def forget_weights(runs, record, arm):
    """Remove the weights of an arm's trials: nobody needs them once those who start from them have ended."""
    prints = {trial.result.fingerprint for trial in record.trials if trial.arm == arm}
    for folder in (runs / "trials").iterdir():
        if folder.name.split("-")[0] in prints:
            TrialFolder(folder).weights.unlink()


def test_a_warm_start_is_an_edit_like_any_other_and_proved():
    conditions = protocols.load("digits")
    study = Study(name="warm", ablation=ABLATION, protocol=conditions, seeds=(0,), overrides={})
    assert [type(setup.start).__name__ for setup in study.setups().values()] == ["Scratch", "WarmStart"]


@pytest.mark.parametrize(
    ("start", "text"),
    [
        (
            replace(WARM, layers=("stage1.conv1", "stage2.conv2")),
            r"arm 'warm': a warm start copies 'stage2\.conv2', wh",
        ),
        (
            WarmStart(network=WIDE, layers=("stage1.conv1",)),
            r"arm 'warm': a warm start copies stage1\.conv1\.weight, wh",
        ),
        (
            replace(WARM, start=WarmStart(network=VGG_A, layers=("stage9",))),
            r"arm 'donor of warm': a warm start copies 'stage9', wh",
        ),
    ],
)
def test_a_wrong_place_or_another_shape_is_refused_before_anything_is_trained(start, text):
    setup = Setup(network=VGG_D, scale=Scale(resolution=32, classes=10))
    with pytest.raises(UserError, match=text):
        build_verified_networks({"cold": setup, "warm": replace(setup, start=start)})


def test_no_arm_can_have_the_name_of_a_donor():
    with pytest.raises(
        InvalidValue, match="names that begin with 'donor of' are reserved for the source networks of warm starts"
    ):
        Arm(dependency_name("warm"), {"network": VGG_A})
