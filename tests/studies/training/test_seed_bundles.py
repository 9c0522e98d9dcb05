"""A bundle of seeds in one process gives, seed by seed, the bits of trials that are trained alone."""

import os
import signal
from dataclasses import replace

import pytest
import torch

from lightning_modules.specs.catalogue import PLAIN_20, RESNET_18, RESNET_20, VGG_A, VGG_A_LRN, VGG_B_5X5
from lightning_modules.specs.data import Data
from studies.design.trial import Trial
from studies.execution.jobs import FINAL_KINDS, TrialJob
from studies.execution.processes import trial_process
from studies.execution.processes.bundle_process import TrialProcess
from studies.execution.processes.fork_server import ForkClient, ForkServer
from studies.hardware import Machine
from studies.settings import Settings
from studies.storage.status_files import load_progress
from studies.storage.trial_folder import TrialFolder
from studies.training.train import train_trial

SEEDS = (0, 1, 2)


@pytest.fixture(scope="module")
def forks():
    server = ForkServer()
    client = ForkClient(server.address)
    yield client
    client.close()
    server.close()


def make_jobs(setups, folder):
    trials = [Trial(arm="A", setup=setup, seed=seed) for seed, setup in enumerate(setups)]
    return [TrialJob(trial=trial, folder=folder / str(trial.seed), digests={}) for trial in trials]


def start(forks, jobs, folder, **settings):
    """Start a bundle's process."""
    settings = replace(Settings.from_environment(folder / "runs"), **settings)
    return TrialProcess(forks, jobs, settings, Machine())


def finish(process):
    """All messages until every trial has ended, by position."""
    messages = {}
    while not process.has_ended:
        for message in process.listen():
            messages.setdefault(message.position, []).append(message)
    process.stop()
    return messages


def bits(folder):
    """What a trial of the folder computed: all but its times, its place and its memory."""
    result = TrialFolder(folder).read_result()
    weights = torch.load(folder / "weights.pt", weights_only=True)
    assert result is not None
    curves = {name: values for name, values in result.curves.items() if name != "seconds"}
    predictions = None if result.predictions is None else result.predictions.tobytes()
    content = {name: tensor.numpy().tobytes() for name, tensor in weights.items()}
    return result.status, result.evidence, curves, result.metrics, predictions, content


def require_same_as_alone(jobs, digits, folder):
    for job in jobs:
        alone = folder / f"alone-{job.trial.seed}"
        train_trial(job.trial, digits, alone, digests={}, machine=Machine())
        assert bits(job.folder) == bits(alone), job.trial.seed


NETWORKS = {
    "vgg": VGG_A,
    "lrn": VGG_A_LRN,
    "batch-norm": replace(VGG_A, norm="batch"),
    "5x5": VGG_B_5X5,
    "plain": PLAIN_20,
    "residual": RESNET_20,
    "projection": RESNET_18,
}
RECIPES = {
    "warm-up": {},
    "plateau": {"schedule": "plateau", "patience": 1, "epochs": 4, "warmup": 0.0, "learning_rate": 0.2},
    "constant": {"schedule": "constant"},
    "flips": {"augmentation": "shift-flip"},
    "plain images": {"augmentation": "none"},
    "crops": {"augmentation": "crop-flip-colour", "side_from": 1.0, "side_to": 1.5},
    "microbatches": {"microbatch": 24, "remainder": "join"},
    "bfloat16": {"precision": "bfloat16"},
}


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("network", NETWORKS)
def test_three_seeds_at_once_are_three_trials_alone_to_the_bit(forks, digits, small, tmp_path, network, recipe):
    setup = replace(small, network=NETWORKS[network], recipe=replace(small.recipe, **RECIPES[recipe]))
    jobs = make_jobs([setup] * len(SEEDS), tmp_path / "bundle")
    messages = finish(start(forks, jobs, tmp_path))
    for sent in messages.values():
        epochs = [message.values["epoch"] for message in sent if message.kind == "epoch"]
        assert epochs == list(range(setup.recipe.epochs))
        assert [message.kind for message in sent if message.kind in FINAL_KINDS] == ["ended"]
    require_same_as_alone(jobs, digits, tmp_path)
    result = TrialFolder(jobs[0].folder).read_result()
    assert result.environment["bundle_size"] == len(SEEDS)


def test_a_killed_bundle_resumes_every_seed_from_its_checkpoint(forks, digits, small, tmp_path):
    setup = replace(small, recipe=replace(small.recipe, epochs=4))
    jobs = make_jobs([setup] * 2, tmp_path / "bundle")
    process = start(forks, jobs, tmp_path, checkpoint_seconds=0.0)
    while not all((job.folder / "checkpoint.ckpt").exists() for job in jobs):
        process.listen()
    process.stop()
    assert not any((job.folder / "result.json").exists() for job in jobs)
    assert [load_progress(job.folder / "progress.json", [])["bundle_size"] for job in jobs] == [2, 2]
    resumed = start(forks, jobs, tmp_path)
    messages = finish(resumed)
    for sent in messages.values():
        assert [message.values["epoch"] for message in sent if message.kind == "epoch"] == list(range(4))
    require_same_as_alone(jobs, digits, tmp_path)
    assert all(TrialFolder(job.folder).num_attempts == 2 for job in jobs)


@pytest.mark.slow
def test_a_seed_that_turns_non_finite_drops_out_and_the_others_go_on(forks, digits, small, tmp_path):
    setup = replace(small, recipe=replace(small.recipe, epochs=3))
    exploding = replace(setup, recipe=replace(setup.recipe, learning_rate=1e8, clip_norm=0.0))
    jobs = make_jobs([setup, exploding, setup], tmp_path / "bundle")
    finish(start(forks, jobs, tmp_path))
    results = [TrialFolder(job.folder).read_result() for job in jobs]
    assert [result.status == "non-finite" for result in results] == [False, True, False]
    assert [len(result.curves["train_loss"]) for result in results] == [3, 1, 3]
    require_same_as_alone(jobs, digits, tmp_path)


def test_a_trial_that_meets_a_fault_is_told_and_the_others_go_on(forks, small, tmp_path):
    without_data = replace(small, data=Data(source="cifar10"), scale=replace(small.scale, channels=3))
    jobs = make_jobs([small, without_data, small], tmp_path / "bundle")
    settings = Settings.from_environment(tmp_path / "runs", tmp_path / "nowhere")
    messages = finish(TrialProcess(forks, jobs, settings, Machine()))
    assert [sent[-1].kind for _, sent in sorted(messages.items())] == ["ended", "fault", "ended"]
    assert "nowhere" in messages[1][-1].text
    assert [(job.folder / "result.json").exists() for job in jobs] == [True, False, True]


def test_a_killed_process_is_a_fault_of_every_trial_that_had_not_ended(forks, small, tmp_path):
    long = replace(small, recipe=replace(small.recipe, epochs=50))
    jobs = make_jobs([replace(small, recipe=replace(small.recipe, epochs=1)), long, long], tmp_path / "bundle")
    process = start(forks, jobs, tmp_path)
    messages = []
    while not any(message.kind == "ended" for message in messages):
        messages += process.listen()
    os.kill(process.process.pid, signal.SIGKILL)
    faults = {message.position: message.kind for message in process.listen() if message.kind in FINAL_KINDS}
    assert faults == {1: "fault", 2: "fault"}
    assert process.has_ended


def test_a_trial_that_waits_for_anothers_data_sends_heartbeats(monkeypatch):
    beats = []

    def beat():
        beats.append("beat")
        trial_process._loading_lock.release()

    monkeypatch.setattr(trial_process, "PIPE_HEARTBEAT_SECONDS", 0.01)
    trial_process._loading_lock.acquire()
    with trial_process._loading_turn(beat):
        assert beats == ["beat"]
        assert trial_process._loading_lock.locked()
    assert not trial_process._loading_lock.locked()
