"""An evaluation is a trial that trains nothing: its donors first, their weights, their status; several at once."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import studies
from lightning_modules import spec
from lightning_modules.data.datamodule import InMemoryDataModule
from lightning_modules.networks.initialization import build_initialized_network
from lightning_modules.profiling.evaluation_cost import inference_multiply_adds
from lightning_modules.specs.catalogue import NETWORKS, VGG_A, VGG_B, VGG_D, VGG_E
from lightning_modules.specs.errors import InvalidValue, UserError
from lightning_modules.specs.scale import Scale
from lightning_modules.specs.setup import Setup, WarmStart
from studies.design.declare import declare
from studies.design.estimate import estimate_trial_seconds
from studies.design.instantiation import instantiate_network
from studies.design.preview import preview_study
from studies.design.trial import Trial, with_dependencies
from studies.hardware import Machine
from studies.records.identity import EndedTrial, TrialKey
from studies.runner.reuse_plan import plan_trials, retrain_missing_weights
from studies.storage.trial_folder import TrialFolder
from studies.training.train import train_trial
from tests.studies.conftest import ONE, SHORT

DIGESTS = {"data": "d", "code": "c", "platform": "p"}
DENSE = spec.Test(mode="dense", sides=(8 / 7,))
WARM = WarmStart(network=VGG_A, layers=("stage1.conv1",))


def run(fit, examples, folder, **keywords):
    counter = {"count_multiply_adds": inference_multiply_adds}
    return train_trial(fit, examples, folder, digests=DIGESTS, machine=Machine(), **counter, **keywords)


@pytest.fixture(scope="module")
def trained(small, digits, tmp_path_factory):
    """Two networks, trained: their folders and results."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ("A", "B")}
    setups = {"A": small, "B": replace(small, network=VGG_B)}
    results = {name: run(Trial(arm=name, setup=setups[name], seed=0), digits, folders[name]) for name in folders}
    return folders, results


def evaluation(small, seed=0, **test):
    return Trial(arm="tested", setup=replace(small, test=spec.Test(**test)), seed=seed)


def test_its_donors_are_the_networks_that_it_tests_trained_and_tested_as_always(small):
    fit = evaluation(small, seed=3, mode="dense", members=(VGG_B,))
    first, second = fit.dependencies
    assert (first.arm, first.setup, first.seed) == ("donor of tested", small, 3)
    assert (second.arm, second.setup) == ("donor of tested, 2", replace(small, network=VGG_B))
    assert (fit.epochs, first.epochs) == (0, small.recipe.epochs)


def test_a_member_starts_from_scratch_and_the_network_itself_as_it_says():
    setup = Setup(network=VGG_D, start=WARM, test=spec.Test(members=(VGG_E,)))
    assert [type(donor.start).__name__ for donor in setup.dependencies] == ["WarmStart", "Scratch"]
    fits = with_dependencies([Trial(arm="pair", setup=setup, seed=0)])
    assert [fit.arm for fit in fits] == ["donor of donor of pair", "donor of pair", "donor of pair, 2", "pair"]


def test_a_fingerprint_tells_tests_and_members_apart(small):
    fits = [evaluation(small), evaluation(small, mode="dense"), evaluation(small, mode="dense", members=(VGG_B,))]
    assert len({fit.fingerprint for fit in fits}) == 3
    assert fits[0].dependencies == ()


def test_evaluations_that_share_a_donor_have_it_trained_once():
    study = declare("evaluation_scales", seeds=(0, 1))
    assert [fit.arm for fit in study.trials()[:5]] == [
        "donor of one size",
        "one size",
        "smaller",
        "larger",
        "three sizes",
    ]
    assert study.evaluated_arms["three sizes"] == ("donor of one size",)
    assert study.source_arms == {}


def test_a_baseline_that_is_trained_is_itself_the_donor():
    study = declare("evaluation", seeds=1)
    assert [fit.arm for fit in study.trials()] == ["single crop", "dense", "multi-crop", "multi-crop and dense"]
    assert study.evaluated_arms == dict.fromkeys(("dense", "multi-crop", "multi-crop and dense"), ("single crop",))


def test_the_arms_of_an_ensemble_are_its_donors():
    study = declare("ensemble", seeds=1)
    assert [fit.arm for fit in study.trials()] == ["D", "E", "D and E"]
    assert study.evaluated_arms == {"D and E": ("D", "E")}


def test_what_is_set_for_all_networks_is_set_in_an_ensembles_members():
    setups = declare("ensemble", "digits", 1, {"network.norm": "batch"}).setups()
    assert setups["D and E"].test.members[0] == setups["E"].network
    assert setups["E"].network.norm == "batch"


def test_a_donor_without_weights_is_trained_again_for_a_test_of_two():
    fits = with_dependencies([Trial(arm="pair", setup=Setup(network=VGG_D, test=spec.Test(members=(VGG_E,))), seed=0)])
    ended = [EndedTrial(TrialKey(fit.fingerprint, "d", "c", "p"), "finished", fit.arm, "mine") for fit in fits[:2]]
    todo = plan_trials(fits, lambda fit: TrialKey(fit.fingerprint, "d", "c", "p"), ended, lambda _: False, "mine")
    left = retrain_missing_weights(todo, lambda fit: fit.arm == "donor of pair").to_train
    assert [fit.arm for fit in left] == ["donor of pair, 2", "pair"]


def test_it_trains_nothing_and_tells_what_it_tested(trained, small, digits, tmp_path):
    folders, results = trained
    result = run(evaluation(small, mode="dense", sides=(8 / 7,)), digits, tmp_path, dependency_folders=[folders["A"]])
    names = ("error", "loss", "balanced_error", "constant_error", "constant_balanced_error")
    assert set(result.metrics) == {*(f"test_{name}" for name in names), "test_top5_error"}
    assert result.metrics["test_error"] == pytest.approx(100 * np.mean(result.predictions != digits.test_labels))
    assert (result.curves, result.times) == ({}, ())
    assert result.evidence["donors"] == results["A"].fingerprint
    assert result.cost["inference_images_per_second"] > 0
    assert result.cost["inference_multiply_adds"] > 0
    assert result.status == results["A"].status
    assert sorted(file.name for file in tmp_path.iterdir()) == ["predictions.npy", "result.json"]
    assert TrialFolder(tmp_path).is_complete(trains=False)
    assert not TrialFolder(tmp_path).is_complete(trains=True)


def test_a_single_crop_at_the_stored_side_gives_the_donors_own_predictions(trained, small, digits, tmp_path):
    folders, results = trained
    result = run(evaluation(small, sides=(1,)), digits, tmp_path, dependency_folders=[folders["A"]])
    assert np.array_equal(result.predictions, results["A"].predictions)
    assert result.metrics["test_top5_error"] == results["A"].metrics["test_top5_error"]
    assert result.metrics["test_loss"] == pytest.approx(results["A"].metrics["test_loss"], rel=1e-5)


def test_two_networks_are_averaged_by_their_posteriors(trained, small, digits, tmp_path):
    folders, results = trained
    fit = evaluation(small, members=(VGG_B,))
    result = run(fit, digits, tmp_path, dependency_folders=[folders["A"], folders["B"]])
    statistics = spec.Data(source="digits", validation_fraction=0.2)
    data = InMemoryDataModule(digits, statistics, small.recipe, 0, torch.device("cpu"))
    total = 0
    for name, network in (("A", VGG_A), ("B", VGG_B)):
        module = build_initialized_network(network, small.scale, seed=0)
        module.load_state_dict(torch.load(folders[name] / "weights.pt", weights_only=True))
        with torch.no_grad():
            module.eval()
            total = total + torch.cat([module(images).softmax(1) for images, _ in data.test.evaluation_batches()])
    assert np.array_equal(result.predictions, total.argmax(1).numpy())
    assert result.evidence["donors"] == ",".join(results[name].fingerprint for name in ("A", "B"))


def test_a_test_of_a_network_at_chance_is_at_chance(trained, small, digits, tmp_path):
    folders, results = trained
    donor = tmp_path / "donor"
    donor.mkdir()
    (donor / "weights.pt").write_bytes((folders["A"] / "weights.pt").read_bytes())
    TrialFolder(donor).write_result(replace(results["A"], status="at chance"))
    result = run(evaluation(small, mode="dense"), digits, tmp_path / "tested", dependency_folders=[donor])
    assert result.status == "at chance"
    assert np.isfinite(result.metrics["test_error"])


def test_without_its_donors_weights_it_fails_and_says_so(small, digits, tmp_path):
    result = run(
        evaluation(small, mode="dense"), digits, tmp_path / "tested", dependency_folders=[tmp_path / "nothing"]
    )
    assert result.status == "failed"
    assert "the donor of tested, under seed 0, left no weights to start from" in result.error


def test_an_arm_that_only_tests_is_not_tuned():
    with pytest.raises(
        InvalidValue, match=r"dense, multi-crop, .* of evaluation only evaluate trained networks; expec"
    ):
        declare("evaluation", tuning=4)


def test_what_a_test_runs_is_in_its_properties():
    scale = Scale(resolution=32, classes=10, width=0.125)
    alone = {
        name: instantiate_network(Setup(network=NETWORKS[name], scale=scale)).properties for name in ("vgg-d", "vgg-e")
    }
    pair = instantiate_network(Setup(network=VGG_D, scale=scale, test=spec.Test(members=(VGG_E,)))).properties
    for name in ("parameters", "conv_parameters", "multiply_adds", "nonlinearities"):
        assert pair[name] == alone["vgg-d"][name] + alone["vgg-e"][name]
    for name in ("weight_layers", "receptive_field"):
        assert pair[name] == alone["vgg-e"][name]
    crops = instantiate_network(
        Setup(network=VGG_D, scale=scale, test=spec.Test(mode="multi-crop", mirroring="never"))
    ).properties
    assert crops == {**alone["vgg-d"], "multiply_adds": 25 * alone["vgg-d"]["multiply_adds"]}


def test_a_network_that_is_averaged_with_itself_is_refused():
    with pytest.raises(UserError, match="a network is named twice in a test: its posteriors would be averaged with th"):
        instantiate_network(Setup(network=VGG_D, test=spec.Test(members=(VGG_D,))))


def test_a_preview_tells_what_is_tested_and_takes_the_time_of_the_tests_alone():
    shown = preview_study(declare("evaluation", overrides=SHORT))
    assert shown.evaluated_arms == {arm: ("single crop",) for arm in shown.arms if arm != "single crop"}
    seconds = {arm: row.seconds for arm, row in shown.arms.items()}
    assert seconds["dense"] < seconds["multi-crop"]
    setup = declare("evaluation").setups()["dense"]
    assert estimate_trial_seconds(setup) < estimate_trial_seconds(setup.dependencies[0])


@pytest.mark.slow
@pytest.mark.xdist_group("evaluation")
def test_a_study_of_evaluations_runs_through_and_a_second_one_trains_nothing(tmp_path, one_ray):
    news = []
    options = {"seeds": 1, "overrides": SHORT, "runs": tmp_path, "resources": ONE, "quiet": True}
    record = studies.run("ensemble", **options, say=lambda _: None)
    assert record.registration.tested == {"D and E": ("D", "E")}
    prints = [record.find_trial(arm, 0).result.fingerprint for arm in ("D", "E")]
    assert record.find_trial("D and E", 0).result.evidence["donors"] == ",".join(prints)
    again = studies.run("ensemble", **options, say=news.append)
    assert "nothing to train: all 3 trials have ended" in news
    assert {trial.run_id for trial in again.trials} == {trial.run_id for trial in record.trials}
