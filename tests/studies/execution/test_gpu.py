"""What only a CUDA device can show."""

from dataclasses import replace

import pytest
import torch

import studies
from lightning_modules.modules import captured_steps
from lightning_modules.modules.captured_steps import CaptureError
from lightning_modules.specs.catalogue import RESNET_20, VGG_A, VGG_A_LRN
from lightning_modules.specs.networks import Custom
from studies.design.trial import Trial
from studies.execution.jobs import TrialJob
from studies.execution.processes.bundle_process import TrialProcess
from studies.execution.processes.bundle_timing import SIZES, measure_best_size
from studies.execution.processes.fork_server import ForkClient
from studies.execution.resources import Resources
from studies.hardware import Machine
from studies.settings import Settings
from studies.training.train import train_trial
from tests.studies.conftest import SHORT

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")]
DIGESTS = {"data": "d", "code": "c", "platform": "p"}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_trial_learns_on_a_gpu_and_twice_the_same(small, digits, tmp_path, precision):
    recipe = replace(small.recipe, epochs=20, batch_size=32, precision=precision)
    fit = Trial(arm="A", setup=replace(small, recipe=recipe, scale=replace(small.scale, width=0.125)), seed=0)
    results = [
        train_trial(fit, digits, tmp_path / name, digests=DIGESTS, machine=Machine(device="cuda"))
        for name in ("one", "two")
    ]
    assert [result.status for result in results] == ["finished", "finished"], results[0].error
    assert results[0].metrics == results[1].metrics
    assert results[0].cost["peak_memory_bytes"] > 0


def test_a_share_of_a_gpu_limits_the_memory_of_a_trial(small, digits, tmp_path):
    """More than its share is a fault of the machine, and no result."""
    fit = Trial(arm="A", setup=replace(small, scale=replace(small.scale, width=4.0)), seed=0)
    machine = Machine(device="cuda", gpu_memory_fraction=1e-4)
    try:
        with pytest.raises(torch.OutOfMemoryError):
            train_trial(fit, digits, tmp_path, digests=DIGESTS, machine=machine)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def weights_of(folder):
    return torch.load(folder / "weights.pt", weights_only=True, map_location="cpu")


@pytest.mark.parametrize("network", [VGG_A, VGG_A_LRN, RESNET_20], ids=["vgg", "lrn", "residual"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_captured_steps_give_the_bits_of_steps_that_are_launched_one_by_one(
    small, digits, tmp_path, monkeypatch, network, precision
):
    recipe = replace(small.recipe, epochs=3, precision=precision, augmentation="shift-flip")
    trial = Trial(arm="A", setup=replace(small, network=network, recipe=recipe), seed=0)
    logged: list[str] = []
    num_captures = 0
    capture_step = captured_steps.capture_step

    def count_and_capture(*given):
        nonlocal num_captures
        num_captures += 1
        return capture_step(*given)

    monkeypatch.setattr(captured_steps, "capture_step", count_and_capture)
    machine = Machine(device="cuda")
    captured = train_trial(trial, digits, tmp_path / "1", digests=DIGESTS, machine=machine, log=logged.append)
    assert logged == []  # nothing was said of a step that could not be captured
    assert num_captures == 2  # of a whole batch, and of the remainder

    def refuse(*_):
        raise CaptureError("not in this test")

    monkeypatch.setattr(captured_steps, "capture_step", refuse)
    launched = train_trial(trial, digits, tmp_path / "2", digests=DIGESTS, machine=machine, log=logged.append)
    assert "not in this test" in logged[0]
    first, second = weights_of(tmp_path / "1"), weights_of(tmp_path / "2")
    differing = [name for name in first if not torch.equal(first[name], second[name])]
    assert differing == []
    assert captured.metrics == launched.metrics


def test_a_bundle_on_a_gpu_gives_the_bits_of_trials_alone(small, digits, tmp_path):
    setup = replace(small, recipe=replace(small.recipe, epochs=3))
    trials = [Trial(arm="A", setup=setup, seed=seed) for seed in range(4)]
    jobs = [TrialJob(trial=trial, folder=tmp_path / f"{trial.seed}", digests=DIGESTS) for trial in trials]
    forks = ForkClient("")
    try:
        process = TrialProcess(forks, jobs, Settings.from_environment(tmp_path / "runs"), Machine(device="cuda"))
        while not process.has_ended:
            process.listen()
        process.stop()
    finally:
        forks.close()
    for job in jobs:
        alone = tmp_path / f"alone-{job.trial.seed}"
        train_trial(job.trial, digits, alone, digests=DIGESTS, machine=Machine(device="cuda"))
        bundled_weights, weights = weights_of(job.folder), weights_of(alone)
        assert [name for name in weights if not torch.equal(weights[name], bundled_weights[name])] == []


class ReadsItsActivations(torch.nn.Sequential):
    """A user's network that no graph can hold, as it waits for a value on the host; with dropout in it."""

    def __init__(self):
        super().__init__(
            torch.nn.Conv2d(1, 8, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
            torch.nn.Dropout(0.5), torch.nn.Linear(8, 10),
        )  # fmt: skip

    def forward(self, images):
        assert float(images.mean().item()) < 1e6
        return super().forward(images)


def test_a_network_that_cannot_be_captured_trains_step_by_step(small, digits, tmp_path):
    """Its failed capture leaves neither the allocator nor the generators in a capture: dropout would raise."""
    network = Custom(class_path="tests.studies.execution.test_gpu.ReadsItsActivations")
    trial = Trial(arm="A", setup=replace(small, network=network), seed=0)
    told = []
    machine = Machine(device="cuda")
    result = train_trial(trial, digits, tmp_path / "first", digests=DIGESTS, machine=machine, log=told.append)
    assert result.status in ("finished", "at chance"), result.error
    assert any("could not be captured as a CUDA graph" in line for line in told)
    torch.cuda.empty_cache()  # raises where the allocator still records
    captured = Trial(arm="A", setup=small, seed=0)
    assert train_trial(captured, digits, tmp_path / "next", digests=DIGESTS, machine=machine).status != "failed"


def test_a_fit_frees_no_workspace_into_which_the_captured_steps_of_another_thread_write(
    small, digits, tmp_path, monkeypatch
):
    """Lightning frees the workspaces of cuBLAS of all threads, where its own accelerator is used."""
    cleared: list[str] = []
    monkeypatch.setattr(torch._C, "_cuda_clearCublasWorkspaces", lambda: cleared.append("workspaces"))
    train_trial(Trial(arm="A", setup=small, seed=0), digits, tmp_path, digests=DIGESTS, machine=Machine(device="cuda"))
    assert cleared == []


def test_the_best_size_of_a_bundle_is_measured(small):
    size, most, description = measure_best_size(small, "cuda")
    assert size in SIZES
    assert most >= size
    assert "ms with 1" in description


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two CUDA devices here")
def test_a_trial_on_two_gpus_comes_to_what_one_comes_to(tmp_path):
    overrides = {**SHORT, "recipe.learning_rate": 0.02, "scale.width": 0.125}
    one, two = (
        studies.run(
            "lrn", seeds=(0,), overrides=overrides, runs=tmp_path / str(count), quiet=True, say=[].append,
            resources=Resources(gpus_per_trial=count),
        ).find_trial("A", 0).result
        for count in (1, 2)
    )  # fmt: skip
    assert two.environment["workers"] == 2
    assert two.evidence == one.evidence
    assert two.metrics["test_loss"] == pytest.approx(one.metrics["test_loss"], rel=0.01)
