"""The training of one trial: the same bits wherever it runs, resumed or not, and a failed run kept."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from lightning_modules.spec import Setup
from lightning_modules.values import to_json
from studies.digests import code_digest, imported_modules
from studies.fits import Fit
from studies.spool import Spool, result_from_json, result_to_json
from studies.training import Machine, Recorder, train

DIGESTS = {"data": "d", "code": "c", "platform": "p"}


def run(fit, examples, folder, **keywords):
    return train(fit, examples, folder, digests=DIGESTS, machine=Machine(), **keywords)


def bits(folder):
    """All that must be equal between two runs of a trial: weights and everything in the result but cost and times."""
    weights = torch.load(folder / "weights.pt", weights_only=True)
    result = result_to_json(Spool(folder).result())
    result["curves"].pop("seconds")
    return {name: tensor.numpy().tobytes() for name, tensor in weights.items()}, {
        name: result[name] for name in ("status", "metrics", "curves", "evidence")
    }


@pytest.fixture(scope="module")
def once(small, digits, tmp_path_factory):
    """The small setup, trained once: its folder and its result."""
    folder = tmp_path_factory.mktemp("once")
    return folder, run(Fit(arm="A", setup=small, seed=0), digits, folder)


def test_it_leaves_a_result_weights_and_predictions(once, small):
    folder, result = once
    assert sorted(file.name for file in folder.iterdir()) == ["predictions.npy", "result.json", "weights.pt"]
    assert result.status in ("finished", "diverged")
    assert set(result.metrics) == {
        *(f"{part}_{what}" for part in ("train", "validation", "test") for what in ("error", "loss")),
        "test_top5_error",
    }
    assert 0 <= result.metrics["test_top5_error"] < result.metrics["test_error"]
    assert {len(values) for values in result.curves.values()} == {small.recipe.epochs}
    assert result.evidence["steps"] == small.recipe.epochs * 8


def test_its_test_error_is_that_of_its_predictions(once, digits):
    _, result = once
    wrong = (result.predictions != digits.test_labels).mean()
    assert result.metrics["test_error"] == pytest.approx(100 * wrong)


def test_a_result_survives_its_json(once):
    _, result = once
    assert result_from_json(json.loads(json.dumps(result_to_json(result)))) == result


def test_another_process_and_other_trials_before_it_give_the_same_bits(once, small, digits, tmp_path):
    folder, _ = once
    script = f"""
import json, sys
from pathlib import Path
from lightning_modules.data import prepare
from lightning_modules.spec import SPEC_KINDS
from lightning_modules.values import from_json
from studies.training import Machine, train
from studies.fits import Fit
setup = from_json(json.loads({json.dumps(json.dumps(to_json(small)))}), SPEC_KINDS)
examples = prepare(setup.data, setup.scale, Path("unused"), Path({str(tmp_path / "cache")!r}))
for seed, name in ((5, "before"), (0, "again")):
    train(Fit(arm="x", setup=setup, seed=seed), examples, Path({str(tmp_path)!r}) / name,
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
    fit = Fit(arm="A", setup=setup, seed=0)
    run(fit, digits, tmp_path / "whole")

    def stop_after_two(values):
        if values["epoch"] == 1:
            raise Interrupted

    save = Recorder.save
    saved = []
    monkeypatch.setattr(Recorder, "save", lambda self, trainer: (save(self, trainer), saved.append(1)))
    with pytest.raises(Interrupted):
        run(fit, digits, tmp_path / "parts", report=stop_after_two, checkpoint_seconds=0.0)
    assert saved == [1]
    assert (tmp_path / "parts" / "checkpoint.ckpt").exists()
    epochs = []
    run(fit, digits, tmp_path / "parts", report=lambda values: epochs.append(values["epoch"]))
    assert epochs == [0, 1, 2]
    assert bits(tmp_path / "parts") == bits(tmp_path / "whole")
    assert not (tmp_path / "parts" / "checkpoint.ckpt").exists()


def test_a_trial_that_raises_is_kept_with_its_traceback(small, digits, tmp_path):
    broken = replace(digits, train_labels=np.full_like(digits.train_labels, 99))
    result = run(Fit(arm="A", setup=small, seed=0), broken, tmp_path)
    assert result.status == "failed"
    assert "Traceback" in result.error
    assert Spool(tmp_path).result() == result


def test_a_trial_whose_loss_is_no_number_diverges_and_stops(small, digits, tmp_path):
    wild = replace(small, recipe=replace(small.recipe, learning_rate=1e30, clip_norm=0.0, warmup=0.0, epochs=5))
    result = run(Fit(arm="A", setup=wild, seed=0), digits, tmp_path)
    assert result.status == "diverged"
    assert len(result.times) < 5


def test_a_trial_that_stays_at_chance_diverges(small, digits, tmp_path):
    idle = replace(small, recipe=replace(small.recipe, learning_rate=1e-12, epochs=1))
    assert run(Fit(arm="A", setup=idle, seed=0), digits, tmp_path).status == "diverged"


def test_arms_under_one_seed_share_split_order_and_augmentation(small, digits, tmp_path, once):
    from lightning_modules.catalogue import VGG_B

    other = run(Fit(arm="B", setup=replace(small, network=VGG_B), seed=0), digits, tmp_path)
    _, result = once
    for name in ("split", "order", "augmentation", "steps", "weights.stage1.conv1", "weights.head.fc3"):
        assert other.evidence[name] == result.evidence[name]
    assert other.evidence["weights.stage2.conv1"] == result.evidence["weights.stage2.conv1"]


def test_a_fingerprint_names_setup_and_seed_and_not_the_arm(small):
    fit = Fit(arm="A", setup=small, seed=0)
    assert fit.fingerprint == Fit(arm="other", setup=small, seed=0).fingerprint
    assert fit.fingerprint != Fit(arm="A", setup=small, seed=1).fingerprint
    assert fit.fingerprint != Fit(arm="A", setup=Setup(network=small.network), seed=0).fingerprint


def test_the_code_digest_covers_what_trains_and_nothing_that_records():
    modules = imported_modules("studies.training")
    assert {"lightning_modules.build", "lightning_modules.batches", "studies.spool", "studies.fits"} <= modules
    assert not modules & {"studies.tracking", "studies.dispatch", "studies.cli", "studies.trials", "ablations"}
    assert not [name for name in modules if name.startswith("reports")]


def test_the_code_digest_ignores_docstrings_and_comments_and_sees_code(tmp_path, monkeypatch):
    package = tmp_path / "studies_probe.py"
    monkeypatch.syspath_prepend(tmp_path)
    digests = []
    for text in ('"""One."""\nx = 1\n', '"""Two."""\nx = 1  # why\n', "x = 2\n"):
        package.write_text(text)
        digests.append(code_digest("studies_probe"))
    assert digests[0] == digests[1] != digests[2]
