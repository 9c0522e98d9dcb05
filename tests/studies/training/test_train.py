"""The training of one trial: the same bits wherever it runs, resumed or not, and a failed run kept."""

import errno
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import studies
from lightning_modules.modules.classifier import Classifier
from lightning_modules.specs.serialization import to_json
from lightning_modules.specs.setup import Setup
from lightning_modules.stored_files import hash_file
from studies.design.trial import Trial
from studies.hardware import Machine
from studies.records.digests import code_digest, imported_modules
from studies.records.results import result_from_json, result_to_json
from studies.storage.trial_folder import TrialFolder
from studies.training import network_training, weights
from studies.training.callback import TrainingRecorder
from studies.training.train import train_trial
from studies.training.weights import load_final_weights

DIGESTS = {"data": "d", "code": "c", "platform": "p"}


def run(fit, examples, folder, **keywords):
    return train_trial(fit, examples, folder, digests=DIGESTS, machine=Machine(), **keywords)


def bits(folder):
    """All that must be equal between two runs of a trial: weights and everything in the result but cost and times."""
    state = torch.load(folder / "weights.pt", weights_only=True)
    result = result_to_json(TrialFolder(folder).read_result())
    result["curves"].pop("seconds")
    return {name: tensor.numpy().tobytes() for name, tensor in state.items()}, {
        name: result[name] for name in ("status", "metrics", "curves", "evidence")
    }


@pytest.fixture(scope="module")
def once(small, digits, tmp_path_factory):
    """The small setup, trained once: its folder and its result."""
    folder = tmp_path_factory.mktemp("once")
    return folder, run(Trial(arm="A", setup=small, seed=0), digits, folder)


def test_it_leaves_a_result_weights_and_predictions(once, small):
    folder, result = once
    assert sorted(file.name for file in folder.iterdir()) == ["predictions.npy", "result.json", "weights.pt"]
    assert result.status in ("finished", "at chance")
    assert set(result.metrics) == {
        *(
            f"{part}_{what}"
            for part in ("train", "validation", "test")
            for what in ("error", "loss", "balanced_error", "constant_error", "constant_balanced_error")
        ),
        "test_top5_error",
    }
    assert 0 <= result.metrics["test_top5_error"] < result.metrics["test_error"]
    assert {len(values) for values in result.curves.values()} == {small.recipe.epochs}
    assert result.evidence["steps"] == small.recipe.epochs * 8


def test_the_weights_are_those_of_the_checksum(once):
    folder, _ = once
    trial_folder = TrialFolder(folder)
    assert trial_folder.load_result().checksums["weights.pt"] == hash_file(trial_folder.weights)
    assert trial_folder.is_complete(trains=True)


def test_weights_that_cannot_be_written_are_a_fault_although_the_evaluation_goes_on(
    small, digits, tmp_path, monkeypatch
):
    """They are written in a thread while the splits are evaluated."""

    def fill_disk(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(weights, "sync_to_disk", fill_disk)
    with pytest.raises(OSError, match="No space left"):
        run(Trial(arm="A", setup=small, seed=0), digits, tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == []


def test_a_trial_whose_evaluation_fails_leaves_no_weights_to_start_from(small, digits, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise ValueError("out of order")

    monkeypatch.setattr(network_training, "evaluate_splits", fail)
    assert run(Trial(arm="A", setup=small, seed=0), digits, tmp_path).status == "failed"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["result.json"]
    with pytest.raises(FileNotFoundError, match="left no weights"):
        load_final_weights(Trial(arm="A", setup=small, seed=0), tmp_path)


def test_weights_that_an_evaluation_changes_are_those_of_before(small, digits, tmp_path, monkeypatch):
    evaluate = network_training.evaluate_splits

    def evaluate_and_spoil(trainable, *given, **named):
        with torch.no_grad():
            next(trainable.network.parameters()).add_(1)
        return evaluate(trainable, *given, **named)

    fit = Trial(arm="A", setup=small, seed=0)
    run(fit, digits, tmp_path / "as it is")
    monkeypatch.setattr(network_training, "evaluate_splits", evaluate_and_spoil)
    run(fit, digits, tmp_path / "spoilt")
    assert bits(tmp_path / "spoilt")[0] == bits(tmp_path / "as it is")[0]


def test_a_result_that_is_read_and_written_again_has_the_checksums_of_the_files_then(once, tmp_path):
    copy = TrialFolder(shutil.copytree(once[0], tmp_path / "copy"))
    result = copy.load_result()
    others = (result.predictions + 1) % 10
    copy.write_result(replace(result, predictions=others))
    assert np.array_equal(copy.load_result().predictions, others)
    assert copy.has_sound_weights()


def test_its_test_error_is_that_of_its_predictions(once, digits):
    _, result = once
    wrong = (result.predictions != digits.test_labels).mean()
    assert result.metrics["test_error"] == pytest.approx(100 * wrong)


def test_a_result_survives_its_json(once):
    _, result = once
    assert result_from_json(json.loads(json.dumps(result_to_json(result)))) == result


@pytest.mark.slow
def test_another_process_and_other_trials_before_it_give_the_same_bits(once, small, digits, tmp_path):
    folder, _ = once
    script = f"""
import json, sys
from pathlib import Path
from lightning_modules.data.datasets import prepare_dataset
from lightning_modules.specs.setup import SPEC_KINDS
from lightning_modules.specs.serialization import from_json
from studies.hardware import Machine; from studies.training.train import train_trial
from studies.training.weights import load_final_weights
from studies.design.trial import Trial
setup = from_json(json.loads({json.dumps(json.dumps(to_json(small)))}), SPEC_KINDS)
examples = prepare_dataset(setup.data, setup.scale, Path("unused"), Path({str(tmp_path / "cache")!r}))
for seed, name in ((5, "before"), (0, "again")):
    train_trial(Trial(arm="x", setup=setup, seed=seed), examples, Path({str(tmp_path)!r}) / name,
          digests={DIGESTS!r}, machine=Machine())
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True, capture_output=True)
    assert bits(tmp_path / "again") == bits(folder)
    assert bits(tmp_path / "before") != bits(folder)


class Interrupted(BaseException):
    """Stands for a kill: nothing catches it."""


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_resumed_trial_has_the_bits_of_an_uninterrupted_one(small, digits, tmp_path, monkeypatch, precision):
    setup = replace(small, recipe=replace(small.recipe, epochs=3, precision=precision))
    fit = Trial(arm="A", setup=setup, seed=0)
    run(fit, digits, tmp_path / "whole")

    def stop_after_two(values):
        if values["epoch"] == 1:
            raise Interrupted

    save = TrainingRecorder.save_checkpoint
    saved = []
    monkeypatch.setattr(
        TrainingRecorder, "save_checkpoint", lambda self, trainer: (save(self, trainer), saved.append(1))
    )
    with pytest.raises(Interrupted):
        run(fit, digits, tmp_path / "parts", on_epoch=stop_after_two, checkpoint_seconds=0.0)
    assert saved == [1]
    assert (tmp_path / "parts" / "checkpoint.ckpt").exists()
    epochs = []
    run(fit, digits, tmp_path / "parts", on_epoch=lambda values: epochs.append(values["epoch"]))
    assert epochs == [0, 1, 2]
    assert bits(tmp_path / "parts") == bits(tmp_path / "whole")
    assert not (tmp_path / "parts" / "checkpoint.ckpt").exists()


def test_a_trial_that_raises_is_kept_with_its_traceback(small, digits, tmp_path):
    broken = replace(digits, train_labels=np.full_like(digits.train_labels, 99))
    result = run(Trial(arm="A", setup=small, seed=0), broken, tmp_path)
    assert result.status == "failed"
    assert "Traceback" in result.error
    assert TrialFolder(tmp_path).read_result() == result


def test_a_trial_whose_loss_is_no_number_is_non_finite_and_stops(small, digits, tmp_path):
    wild = replace(small, recipe=replace(small.recipe, learning_rate=1e30, clip_norm=0.0, warmup=0.0, epochs=5))
    result = run(Trial(arm="A", setup=wild, seed=0), digits, tmp_path)
    assert result.status == "non-finite"
    assert len(result.times) < 5


def test_a_trial_that_learns_nothing_is_at_chance(small, digits, tmp_path):
    idle = replace(small, recipe=replace(small.recipe, learning_rate=1e-12, epochs=1))
    assert run(Trial(arm="A", setup=idle, seed=0), digits, tmp_path).status == "at chance"


def test_arms_under_one_seed_share_split_order_and_augmentation(small, digits, tmp_path, once):
    from lightning_modules.specs.catalogue import VGG_B

    other = run(Trial(arm="B", setup=replace(small, network=VGG_B), seed=0), digits, tmp_path)
    _, result = once
    for name in ("split", "order", "augmentation", "steps", "weights.stage1.conv1", "weights.head.fc3"):
        assert other.evidence[name] == result.evidence[name]
    assert other.evidence["weights.stage2.conv1"] == result.evidence["weights.stage2.conv1"]


def test_a_fingerprint_names_setup_and_seed_and_not_the_arm(small):
    fit = Trial(arm="A", setup=small, seed=0)
    assert fit.fingerprint == Trial(arm="other", setup=small, seed=0).fingerprint
    assert fit.fingerprint != Trial(arm="A", setup=small, seed=1).fingerprint
    assert fit.fingerprint != Trial(arm="A", setup=Setup(network=small.network), seed=0).fingerprint


def test_the_code_digest_covers_what_trains_and_nothing_that_records():
    modules = imported_modules("studies.training.train")
    assert {
        "lightning_modules.networks.build",
        "lightning_modules.data.datamodule",
        "studies.storage.trial_folder",
        "studies.design.trial",
    } <= modules
    assert not modules & {
        "studies.tracking.store",
        "studies.execution.cluster.tune_executor",
        "studies.cli.app",
        "studies.design.study",
        "ablations",
    }
    assert not [name for name in modules if name.startswith("reports")]


def test_the_code_digest_ignores_docstrings_and_comments_and_sees_code(tmp_path, monkeypatch):
    package = tmp_path / "studies_probe.py"
    monkeypatch.syspath_prepend(tmp_path)
    digests = []
    for text in ('"""One."""\nx = 1\n', '"""Two."""\nx = 1  # why\n', "x = 2\n"):
        package.write_text(text)
        digests.append(code_digest("studies_probe"))
    assert digests[0] == digests[1] != digests[2]


def test_the_code_digest_ignores_how_a_notebook_shows_an_object(tmp_path, monkeypatch):
    package = tmp_path / "studies_shown.py"
    monkeypatch.syspath_prepend(tmp_path)
    digests = []
    for view in (
        "",
        "    def _repr_html_(self):\n        import studies.settings\n",
        "    def __repr__(self):\n        from lightning_modules.specs.notebook_html import describe_object\n",
        "    def __repr__(self):\n        return 'Network'\n",
        "    def __call__(self):\n        return 1\n",
    ):
        package.write_text(f"class Network:\n    width = 1\n{view}")
        digests.append(code_digest("studies_shown"))
    assert digests[0] == digests[1] == digests[2]
    assert len(set(digests[2:])) == 3


# -- in a copy of the sources ------------------------------------------------------------------------------------------

ROOT = Path(studies.__file__).parent.parent
VGG = "lightning_modules/networks/vgg.py"
NOT_TRAINING = {
    "lightning_modules/specs/catalogue.py": "VGG_PLANTED = VGG_A\n",
    "ablations/planted.py": (ROOT / "ablations" / "lrn.py").read_text(),
    "lightning_modules/profiling/receptive_field.py": "def planted_rule():\n    return None\n",
}


def digest_in(tree):
    """The code digest, as a process that has only the copy computes it."""
    code = "from studies.records import digests; print(digests.__file__, digests.code_digest())"
    shown = subprocess.run([sys.executable, "-c", code], cwd=tree, capture_output=True, text=True, check=True)
    file, digest = shown.stdout.split()
    assert Path(file).is_relative_to(tree)
    return digest


def append_line(file, text):
    file.write_text((file.read_text() if file.exists() else "") + text)


@pytest.fixture
def tree(tmp_path):
    for name in ("ablations", "lightning_modules", "studies"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_a_new_network_ablation_or_profiling_rule_leaves_the_code_digest_and_an_edited_builder_changes_it(tree):
    before = digest_in(tree)
    assert before == code_digest()
    for name, text in NOT_TRAINING.items():
        append_line(tree / name, text)
        assert digest_in(tree) == before, name
    append_line(tree / VGG, "PLANTED = 1\n")
    assert digest_in(tree) != before


@pytest.mark.parametrize(
    "recipe",
    [
        {},
        {"augmentation": "shift-flip", "microbatch": 24, "remainder": "join"},
        {"schedule": "plateau", "patience": 1, "epochs": 4, "warmup": 0.0, "learning_rate": 0.2},
        {"precision": "bfloat16", "augmentation": "none", "momentum": 0.0, "clip_norm": 0.0},
    ],
    ids=["warm-up", "microbatches", "plateau", "bfloat16"],
)
def test_steps_that_depend_on_nothing_of_the_host_give_the_same_bits(small, digits, tmp_path, monkeypatch, recipe):
    """As on a GPU, where the step is captured: batches are cut and rates are found on the device."""
    trial = Trial(arm="A", setup=replace(small, recipe=replace(small.recipe, **recipe)), seed=1)
    results = []
    for on_device in (False, True):
        monkeypatch.setattr(Classifier, "has_device_steps", on_device)
        folder = tmp_path / str(on_device)
        result = train_trial(trial, digits, folder, digests={}, machine=Machine())
        weights = torch.load(folder / "weights.pt", weights_only=True)
        results.append((result, weights))
    (result, weights), (other, other_weights) = results
    assert all(torch.equal(weights[name], other_weights[name]) for name in weights)
    assert result.evidence == other.evidence
    assert {**result.curves, "seconds": ()} == {**other.curves, "seconds": ()}
    assert result.metrics == other.metrics
