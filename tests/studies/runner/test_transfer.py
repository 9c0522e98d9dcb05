"""Features learned on other data: a donor elsewhere, a linear classifier on what it gives, and both in one study."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import ablations
import studies
from ablations import Ablation, Arm, ByData
from lightning_modules import spec
from lightning_modules.data.datamodule import InMemoryDataModule
from lightning_modules.evaluation.inference import Scorer, ViewScheme
from lightning_modules.evaluation.linear_probe import extract_features
from lightning_modules.networks.initialization import build_initialized_network
from lightning_modules.specs.catalogue import VGG_A, VGG_B
from lightning_modules.specs.data import Data, ForeignData
from lightning_modules.specs.errors import InvalidValue, UserError
from lightning_modules.specs.networks import Custom
from lightning_modules.specs.scale import Scale
from lightning_modules.specs.serialization import from_json, to_json
from lightning_modules.specs.setup import SPEC_KINDS, Elsewhere, Setup, WarmStart
from lightning_modules.specs.values import edit_field, flatten_fields
from reports.analysis.trials import find_failures
from reports.comparison.comparison import compare_arms
from reports.renderers import markdown
from studies.design.declare import declare
from studies.design.estimate import PROBE_FIT_SECONDS_PER_EXAMPLE, estimate_trial_seconds
from studies.design.preview import preview_study
from studies.design.trial import Trial
from studies.design.verification import build_verified_networks
from studies.execution.resources import Resources
from studies.hardware import Machine
from studies.records.digests import platform_digest
from studies.records.study_record import RecordedTrial
from studies.runner.context import prepare_study
from studies.runner.trial_store import TrialStore
from studies.settings import Settings
from studies.training.train import train_trial
from tests.studies.conftest import ONE, SHORT

DIGESTS = {"data": "d", "code": "c", "platform": "p"}
FIVE = Elsewhere(data=Data(source="folder", validation_fraction=0.2), classes=5)
ALL_BUT_LAST = ("stage1", "stage2", "stage3", "stage4", "stage5", "head.fc1", "head.fc2")
LEARNED = WarmStart(network=VGG_A, layers=ALL_BUT_LAST, on=FIVE)
CLASSIFIER = {"network": VGG_A, "recipe.trains": "linear classifier"}
ABLATION = Ablation(
    question="Do features of five digits help to tell ten?",
    baseline=Arm("random", CLASSIFIER),
    arms=(
        Arm("frozen", {**CLASSIFIER, "start": LEARNED}),
        Arm("fine-tuned", {"network": VGG_A, "start": LEARNED}),
    ),
    varies=("start", "recipe.trains"),
)


def run(fit, examples, folder, **keywords):
    return train_trial(fit, examples, folder, digests=DIGESTS, machine=Machine(), **keywords)


def classifier(small, **changes):
    return replace(small, recipe=replace(small.recipe, trains="linear classifier"), **changes)


@pytest.fixture(scope="module")
def five(digits, tmp_path_factory):
    """An image folder of the digits from 0 to 4, as files."""
    root = tmp_path_factory.mktemp("five")
    parts = {"train": (digits.train_images, digits.train_labels), "test": (digits.test_images, digits.test_labels)}
    for name, (images, labels) in parts.items():
        for number in np.flatnonzero(labels < 5)[:200]:
            folder = root / name / str(labels[number])
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(images[number, :, :, 0]).save(folder / f"{number}.png")
    return root


def test_a_donor_elsewhere_has_its_own_data_and_classes_and_is_trained_as_a_network(small):
    setup = classifier(small, start=LEARNED, test=spec.Test(mode="dense", sides=(2.0,)))
    (donor,) = setup.dependencies
    assert (donor.data, donor.scale) == (FIVE.data, replace(small.scale, classes=5))
    assert (donor.recipe, donor.test) == (small.recipe, spec.Test())
    assert (setup.has_training, setup.epochs, donor.epochs) == (True, 0, 2)
    assert from_json(to_json(setup), SPEC_KINDS) == setup


def test_a_fingerprint_names_the_donors_data(small):
    other = replace(LEARNED, on=replace(FIVE, data=Data(source="cifar10")))
    prints = {
        Trial(arm="frozen", setup=classifier(small, start=start), seed=0).fingerprint
        for start in (LEARNED, other, replace(LEARNED, on=spec.Here()))
    }
    assert len(prints) == 3


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"network": Custom(class_path="a.B")}, r"the network is a\.B; expected a VGG or residual network"),
        (
            {"data": ForeignData(class_path="a.B")},
            r"and a\.B loads its own images; expected Data: a custom training loader",
        ),
        (
            {"test": spec.Test(mode="ten-crop")},
            r"Test\.mode is 'ten-crop' with 0 members; expected 'single' or 'dense'",
        ),
        (
            {"test": spec.Test(members=(VGG_B,))},
            r"Test\.mode is 'single' with 1 members; expected 'single' or 'dense' without members",
        ),
    ],
)
def test_what_a_linear_classifier_cannot_read_is_refused(small, changes, text):
    with pytest.raises(
        InvalidValue, match=r"Recipe\.trains is 'linear classifier', and .*" + text.removeprefix("and ")
    ):
        classifier(small, **changes).require_consistent()


def test_the_layer_of_the_logits_cannot_come_from_other_classes(small):
    whole = replace(LEARNED, layers=("head",))
    with pytest.raises(
        UserError, match=r"arm 'frozen': a warm start copies head\.fc3\.weight, which has the shape \(5, "
    ):
        build_verified_networks({"frozen": classifier(small, start=whole)})


def test_a_value_may_follow_the_data():
    choice = ByData(digits="shift", others="none")
    arm = Arm("a", {"recipe.augmentation": choice})
    for source, chosen in (("digits", "shift"), ("cifar10", "none")):
        assert arm.apply(Setup(network=VGG_A, data=Data(source=source))).recipe.augmentation == chosen
    foreign = Setup(network=VGG_A, data=ForeignData(class_path="a.B"))
    assert arm.apply(foreign).recipe.augmentation == "none"


def test_an_ablation_that_breaks_the_contract_on_some_data_alone_says_on_which():
    change = ByData(digits=0.5, others=0.9)
    with pytest.raises(ablations.NotASingleChange, match=r"at 32 pixels, on digits: arm 'B' may vary only network"):
        Ablation(
            question="?",
            baseline=Arm("A", {"network": VGG_A}),
            arms=(Arm("B", {"network": VGG_B, "recipe.momentum": change}),),
            varies=("network.stages",),
        )


@pytest.mark.parametrize(("protocol", "source"), [("digits", "cifar10"), ("cifar10-cpu", "digits")])
def test_transfer_goes_from_the_other_data_to_those_of_the_protocol(protocol, source):
    study = declare("transfer", protocol, 1)
    (donor,) = {fit for fit in study.trials() if fit.arm.startswith("donor of")}
    assert (donor.setup.data.source, donor.setup.recipe.trains) == (source, "network")
    assert donor.setup.scale == study.base_setup.scale
    assert study.source_arms == dict.fromkeys(("frozen features", "fine-tuned"), "donor of frozen features")


def test_random_features_are_classified_and_nothing_of_the_network_is_trained(small, digits, tmp_path):
    fit = Trial(arm="random", setup=classifier(small), seed=3)
    first, second = (run(fit, digits, tmp_path / name) for name in ("first", "second"))
    assert (first.status, first.curves, first.times, fit.epochs) == ("finished", {}, (), 0)
    assert first.metrics == second.metrics
    assert first.metrics["test_error"] < 60  # guessing errs in 90 of 100
    assert {f"{part}_{what}" for part in ("train", "validation", "test") for what in ("error", "loss")} < {
        *first.metrics
    }
    assert "test_top5_error" in first.metrics
    assert not {"order", "augmentation", "steps"} & {*first.evidence}
    assert first.evidence["classifier"].startswith("C = ")
    state = torch.load(tmp_path / "first" / "weights.pt", weights_only=True)
    untouched = build_initialized_network(small.network, small.scale, 3).state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in untouched.items())


def test_the_predictions_are_those_of_the_files_that_a_trial_leaves(small, digits, tmp_path):
    fit = Trial(arm="random", setup=classifier(small), seed=0)
    result = run(fit, digits, tmp_path)
    network = build_initialized_network(small.network, small.scale, 1)
    network.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    data = InMemoryDataModule(digits, small.data, small.recipe, 0, torch.device("cpu"))
    scorer = Scorer(network, small.network, small.recipe).eval()
    test = extract_features(scorer, ViewScheme.from_setup(fit.setup), data.test, lambda: None)
    kept = np.load(tmp_path / "classifier.npz")
    again = (test.features @ kept["weight"].T + kept["bias"]).argmax(1)
    assert np.array_equal(again, result.predictions)
    assert result.metrics["test_error"] == pytest.approx(100 * float((again != test.labels).mean()))


def test_a_fit_that_tunes_sees_no_test_part(small, digits, tmp_path):
    result = run(Trial(arm="random", setup=classifier(small), seed=0, candidate=1), digits, tmp_path)
    assert result.status == "finished"
    assert not [name for name in result.metrics if name.startswith("test")]


def test_activations_that_are_no_numbers_are_a_divergence(small, digits, tmp_path):
    fit = Trial(arm="frozen", setup=classifier(small, start=replace(LEARNED, on=spec.Here())), seed=0)
    (tmp_path / "donor").mkdir()
    state = build_initialized_network(small.network, small.scale, 0).state_dict()
    torch.save({name: torch.full_like(each, torch.nan) for name, each in state.items()}, tmp_path / "donor/weights.pt")
    result = run(fit, digits, tmp_path / "frozen", dependency_folders=[tmp_path / "donor"])
    assert (result.status, result.predictions) == ("non-finite", None)
    assert np.isnan(result.metrics["test_error"])
    assert result.evidence["classifier"] == "none: activations are not finite"
    trial = RecordedTrial(arm="frozen", seed=0, state="non-finite", result=result, run_id="")
    (failure,) = find_failures([trial])
    assert failure.reason == "its features are not finite"


def test_a_linear_classifier_is_not_tuned():
    text = (
        "random features, frozen features of transfer train a linear classifier, whose strength is always chosen on "
        "validation; expected"
    )
    with pytest.raises(InvalidValue, match=text):
        declare("transfer", tuning=4)


@pytest.mark.parametrize(("path", "value"), [("recipe.epochs", 9), ("test.mode", "dense")])
def test_what_trains_networks_or_cuts_crops_reaches_no_classifier_on_random_features(small, path, value):
    plain = classifier(small)
    with pytest.raises(
        ablations.InvalidAblation, match=rf"differ in {path}, which has no effect on either: .* or train no net"
    ):
        build_verified_networks({"a": plain, "b": edit_field(plain, path, value)})


def test_a_recipe_reaches_the_donor_of_frozen_features(small):
    frozen = classifier(small, start=LEARNED)
    assert len(build_verified_networks({"a": frozen, "b": edit_field(frozen, "recipe.epochs", 9)})) == 2


def test_a_preview_counts_the_donor_and_takes_the_time_of_features_and_of_the_fit():
    study = declare("transfer", "cifar10-cpu", 1)
    seconds = {arm: estimate_trial_seconds(setup) for arm, setup in study.setups().items()}
    fitting = PROBE_FIT_SECONDS_PER_EXAMPLE * 45_000
    assert fitting < seconds["frozen features"] < fitting + seconds["fine-tuned"]  # images are read once, not 20 times
    assert preview_study(study).num_trials == 4


def test_the_version_of_scikit_learn_is_part_of_the_platform_where_it_fits_something():
    plain = platform_digest("cpu", 1, ["a"])
    assert platform_digest("cpu", 1, ["a"], extra_distributions=["scikit-learn"]) not in (
        plain,
        platform_digest("cpu", 1, ["a"], extra_distributions=["scipy"]),
    )


def test_the_digest_of_the_data_covers_the_donors(five, tmp_path, monkeypatch, digits):
    monkeypatch.setattr(ablations, "load", lambda _: ABLATION)
    study = declare("transfer", "digits", 1, SHORT)

    def prepare():
        return prepare_study(study, Settings.from_environment(tmp_path, data_root=five), Resources(), lambda _: None)

    context = prepare()
    before = {TrialStore(context).digests(trial)["data"] for trial in study.trials()}
    assert len(before) == 1  # one for all: what no trial of an arm reads counts as well
    assert before != {digits.digest}
    assert np.array_equal(context.inventory.test_labels, digits.test_labels)
    assert context.inventory.split_sizes == {"train": 480, "validation": 120, "test": 1197}
    extra = five / "train" / "0" / "extra.png"
    Image.fromarray(digits.test_images[0, :, :, 0]).save(extra)
    try:
        assert prepare().digests["data"] not in before
    finally:
        extra.unlink()


@pytest.mark.slow
@pytest.mark.xdist_group("transfer")
def test_a_study_of_two_sources_runs_through_and_is_reported(five, tmp_path, monkeypatch, one_ray):
    monkeypatch.setattr(ablations, "load", lambda _: ABLATION)
    news = []
    options = {"seeds": 2, "overrides": SHORT, "runs": tmp_path, "data_root": five, "resources": ONE, "quiet": True}
    record = studies.run("transfer", **options, say=lambda _: None)
    donor = "donor of frozen"
    assert {(trial.arm, trial.seed) for trial in record.trials} == {
        (arm, seed) for arm in ("random", "frozen", "fine-tuned", donor) for seed in (0, 1)
    }
    assert record.registration.donor_epochs == {"frozen": 2, "fine-tuned": 2}
    assert record.find_trial(donor, 0).result.predictions.max() < 5
    for seed in (0, 1):
        frozen, random = record.find_trial("frozen", seed), record.find_trial("random", seed)
        assert (random.state, random.result.times) == ("finished", ())
        assert frozen.result.evidence["donor"] == record.find_trial(donor, seed).result.fingerprint
        assert "head.fc3" not in frozen.result.evidence["copied"]
        assert frozen.result.evidence["weights.head.fc3"] == random.result.evidence["weights.head.fc3"]
    compared = compare_arms(record)
    assert not [caution for caution in compared.cautions if "different" in caution]
    assert "frozen and fine-tuned start from the trained network of donor of frozen" in markdown.render_report(
        compared, ()
    )
    assert not [check for check in compared.integrity_checks if check.state == "broken"]
    studies.run("transfer", **options, say=news.append)
    assert "nothing to train: all 8 trials have ended" in news


def test_the_new_fields_are_leaves_of_a_setup():
    leaves = flatten_fields(Setup(network=VGG_A, scale=Scale(), start=LEARNED))
    assert (leaves["start.on.kind"], leaves["start.on.data.source"], leaves["start.on.classes"]) == (
        "Elsewhere",
        "folder",
        5,
    )
    assert leaves["recipe.trains"] == "network"
