"""What is left to do, sorted from what the record and the spool hold."""

from dataclasses import replace

import numpy as np
import pytest

import ablations
from ablations import Ablation, Arm, ByResolution
from lightning_modules.data.inventory import make_inventory
from lightning_modules.specs.catalogue import RESNET_18, VGG_A
from lightning_modules.specs.errors import InvalidValue, UnknownPath
from lightning_modules.specs.setup import WarmStart
from lightning_modules.specs.values import flatten_fields
from studies.design import trial
from studies.design.declare import declare
from studies.design.study import Study, sort_longest_first
from studies.design.trial import Trial, with_dependencies
from studies.records.identity import EndedTrial, TrialKey
from studies.records.register import make_registration
from studies.runner.reuse_plan import plan_trials

STUDY = declare("depth", seeds=(0, 1))
FITS = STUDY.trials()


def identity(fit, code="now"):
    return TrialKey(fit.fingerprint, "data", code, "platform")


def ended(fit, *, parent="mine", code="now"):
    return EndedTrial(key=identity(fit, code), status="finished", run_id=f"run-{fit.arm}", parent_run_id=parent)


def never(fit):
    return False


def sort(trials=(), *, spooled=(), reuse="matching"):
    return plan_trials(FITS, identity, trials, lambda fit: fit in spooled, "mine", reuse)


def test_with_an_empty_record_everything_is_trained():
    assert sort().to_train == FITS


def test_what_this_study_has_recorded_is_not_trained_again():
    todo = sort([ended(fit) for fit in FITS])
    assert (todo.to_train, todo.recorded) == ((), FITS)


def test_a_trial_of_another_study_is_taken_over():
    todo = sort([ended(FITS[0], parent="another")])
    assert [fit for fit, _ in todo.reusable] == [FITS[0]]
    assert todo.to_train == FITS[1:]


def test_a_spooled_result_is_logged_without_training():
    todo = sort(spooled=[FITS[2]])
    assert todo.unlogged == (FITS[2],)
    assert FITS[2] not in todo.to_train


def test_a_trial_of_other_code_is_trained_again_and_said_to_be():
    todo = sort([ended(FITS[0], code="then")])
    assert todo.outdated == (FITS[0],)
    assert todo.to_train == FITS


def test_a_trial_of_other_user_code_is_never_kept_for_it_is_another_network():
    todo = plan_trials(
        FITS[:1], lambda fit: identity(fit, "now+mine"), [ended(FITS[0], code="now+old")], never, "mine", "any"
    )
    assert todo.to_train == FITS[:1]
    todo = plan_trials(
        FITS[:1], lambda fit: identity(fit, "now+mine"), [ended(FITS[0], code="then+mine")], never, "mine", "any"
    )
    assert todo.recorded == FITS[:1]


def test_a_trial_of_other_code_is_kept_where_the_user_says_so():
    todo = sort([ended(FITS[0], code="then")], reuse="any")
    assert todo.recorded == (FITS[0],)
    assert not todo.outdated


def test_nothing_is_reused_where_the_user_says_so():
    todo = sort([ended(fit) for fit in FITS], spooled=FITS, reuse="none")
    assert todo.to_train == FITS


def test_trials_come_seed_by_seed_so_that_a_study_cut_short_leaves_pairs():
    assert [(fit.arm, fit.seed) for fit in FITS[:5]] == [("A", 0), ("B", 0), ("D", 0), ("E", 0), ("A", 1)]


def test_trials_go_seed_by_seed_and_within_a_seed_the_costliest_first():
    ordered = sort_longest_first(FITS, {"A": 1, "B": 2, "D": 3, "E": 4})
    assert [(fit.seed, fit.arm) for fit in ordered] == [(seed, arm) for seed in (0, 1) for arm in "EDBA"]


def test_a_donor_goes_as_early_as_the_costliest_who_waits_for_it():
    warm = replace(FITS[3].setup, start=WarmStart(network=VGG_A, layers=("head",)))
    fits = with_dependencies([*FITS[1:3], Trial(arm="warm", setup=warm, seed=0)])
    costs = {"B": 2, "D": 3, "warm": 4, "donor of warm": 1}
    assert [fit.arm for fit in sort_longest_first(fits, costs)] == ["donor of warm", "warm", "D", "B"]


def test_a_trial_on_other_data_is_never_used_again():
    other = EndedTrial(
        key=TrialKey(FITS[0].fingerprint, "other data", "now", "platform"),
        status="finished",
        run_id="run",
        parent_run_id="mine",
    )
    assert sort([other], reuse="any").to_train == FITS


def test_where_the_newest_run_is_of_other_code_an_older_one_that_agrees_is_copied():
    """A report reads the newest run of an arm and seed, so that one must be the one that agrees."""
    todo = sort([ended(FITS[0]), ended(FITS[0], code="then")])
    assert [fit for fit, _ in todo.reusable] == [FITS[0]]
    assert not todo.recorded


def test_a_trial_that_failed_when_it_was_trained_again_takes_its_earlier_result_back():
    failed = replace(ended(FITS[0]), status="failed")
    todo = sort([ended(FITS[0]), failed])
    assert [fit for fit, _ in todo.reusable] == [FITS[0]]
    assert sort([failed]).to_train == FITS
    assert not sort([failed]).outdated
    assert sort([failed, ended(FITS[0])]).recorded == FITS[:1]


def test_an_override_reaches_every_arm():
    study = declare("depth", overrides={"recipe.epochs": "3", "network.init": "glorot"})
    assert {(fit.setup.recipe.epochs, fit.setup.network.init) for fit in study.trials()} == {(3, "glorot")}


def test_an_override_of_what_the_ablation_varies_is_refused():
    with pytest.raises(InvalidValue, match=r"network\.stages is what depth varies"):
        declare("depth", overrides={"network.stages": ()})


def test_an_override_of_an_unknown_path_is_refused():
    with pytest.raises(UnknownPath, match="Did you mean 'epochs'"):
        declare("depth", overrides={"recipe.epoch": "3"})


@pytest.mark.parametrize("seeds", [(), 0, (1, 1), (-1, 0), (0, 1.5), (True,), (2**32,)])
def test_seeds_that_repeat_are_negative_or_none_are_refused(seeds):
    with pytest.raises(InvalidValue, match="seed"):
        declare("depth", seeds=seeds)


def test_a_number_of_seeds_means_the_seeds_from_0_up():
    assert declare("depth", seeds=3).seeds == (0, 1, 2)
    assert declare("depth", seeds=np.arange(2)).seeds == (0, 1)


def test_a_whole_number_in_a_floats_place_is_the_same_setting():
    studies = [declare("depth", overrides={"recipe.clip_norm": value}) for value in (1, 1.0, "1")]
    assert len({study.trials()[0].fingerprint for study in studies}) == 1


def test_to_register_a_study_hashes_its_trials_under_one_seed_alone(monkeypatch, tmp_path):
    study = declare("lrn", seeds=30)
    data = make_inventory(study.setups()["A"], (0,), tmp_path, tmp_path)
    hashed = []
    monkeypatch.setattr(trial, "flatten_fields", lambda setup: hashed.append(setup) or flatten_fields(setup))
    make_registration(study, data, print)
    assert 2 <= len(hashed) <= 2 * 2  # of two arms, for the names of dependencies and for their setups


def test_conditions_do_not_depend_on_the_seeds():
    assert declare("depth", seeds=(7,)).conditions_digest("data") == STUDY.conditions_digest("data")
    assert declare("depth", overrides={"recipe.epochs": 3}).conditions_digest("data") != STUDY.conditions_digest("data")
    assert STUDY.conditions_digest("data") != STUDY.conditions_digest("other data")


def test_a_study_of_residual_networks_takes_the_protocols_settings_for_them_in_every_arm():
    setups = declare("residual").setups().values()
    assert {(setup.scale.width, setup.recipe.learning_rate, setup.recipe.clip_norm) for setup in setups} == {
        (0.25, 0.1, 0.0)
    }
    assert declare("depth").base_setup.scale.width == 0.125


def test_a_family_with_an_unknown_setting_is_refused_where_the_protocol_is_declared():
    protocol = STUDY.protocol
    with pytest.raises(UnknownPath, match="Did you mean 'epochs'"):
        replace(protocol, families={"ResNet": {"recipe.epoch": 3}})


def test_what_is_set_for_all_arms_overrides_the_familys():
    study = declare("residual", overrides={"scale.width": "0.5"})
    assert {setup.scale.width for setup in study.setups().values()} == {0.5}


def test_a_multiple_follows_what_is_set_for_all_arms():
    study = declare("initialization", overrides={"recipe.epochs": 3})
    epochs = {arm: setup.recipe.epochs for arm, setup in study.setups().items()}
    assert epochs.pop("Glorot at equal budget") == 6
    assert set(epochs.values()) == {3}


def study_of(ablation, overrides=None, protocol=STUDY.protocol):
    return Study(name="mine", ablation=ablation, protocol=protocol, seeds=(0,), overrides=overrides or {})


def test_an_override_of_what_an_arm_is_forced_to_change_is_refused():
    forced = Ablation(
        question="Why?",
        baseline=Arm("none", {"network": VGG_A}),
        arms=(Arm("batch", {"network": replace(VGG_A, norm="batch"), "recipe.learning_rate": 0.1}),),
        varies=("network.norm",),
        forced={"recipe.learning_rate": "a norm needs more"},
    )
    assert study_of(forced, {"recipe.epochs": 3}).setups()["batch"].recipe.learning_rate == 0.1
    with pytest.raises(
        InvalidValue, match=r"recipe\.learning_rate is forced in mine to a value of its own in 'batch'; "
    ):
        study_of(forced, {"recipe.learning_rate": 0.01})


def test_an_override_reaches_networks_that_arms_give_whole_and_their_donors():
    study = declare("initialization", "digits", 1, {"network.activation": "gelu"})
    for setup in study.setups().values():
        assert setup.network.activation == "gelu"
        assert all(donor.network.activation == "gelu" for donor in setup.dependencies)


def test_an_overrides_type_is_that_of_the_baselines_own_field():
    study = declare("residual", overrides={"network.halve_by": "1x1"})
    assert {setup.network.halve_by for setup in study.setups().values()} == {"1x1"}


TWO_KINDS = Ablation(
    question="Why?",
    baseline=Arm("he", {"network": ByResolution(small=VGG_A, large=RESNET_18)}),
    arms=(
        Arm(
            "glorot",
            {"network": ByResolution(small=replace(VGG_A, init="glorot"), large=replace(RESNET_18, init="glorot"))},
        ),
    ),
    varies=("network.init",),
)


@pytest.mark.parametrize(("resolution", "width"), [("32", 0.125), ("224", 0.25)])
def test_a_protocols_family_is_that_of_the_network_at_what_is_set(resolution, width, monkeypatch):
    monkeypatch.setattr(ablations, "load", lambda _: TWO_KINDS)
    study = declare("mine", overrides={"scale.resolution": resolution})
    assert {setup.scale.width for setup in study.setups().values()} == {width}
    assert {setup.scale.resolution for setup in study.setups().values()} == {int(resolution)}


def test_the_type_of_a_field_is_that_at_the_resolution_that_is_set(monkeypatch):
    monkeypatch.setattr(ablations, "load", lambda _: TWO_KINDS)
    study = declare("mine", overrides={"network.halve_by": "1x1", "scale.resolution": "224"})
    assert {setup.network.halve_by for setup in study.setups().values()} == {"1x1"}
