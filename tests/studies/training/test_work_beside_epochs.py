"""Work beside the epochs: weights written while others are computed with, one look at all numbers, one load of data."""

import threading

import pytest
import torch

from lightning_modules.data import inventory
from studies.execution.processes import trial_process
from studies.hardware import PeakMemory
from studies.settings import Settings
from studies.storage.trial_folder import TrialFolder
from studies.training.status import training_status
from studies.training.weights import writing_weights

LEARNED = {
    "train_error": 1.0,
    "train_balanced_error": 1.0,
    "train_constant_error": 90.0,
    "train_constant_balanced_error": 90.0,
}


@pytest.mark.parametrize("moves_away", [False, True])
def test_weights_are_written_as_they_were_before_the_block(tmp_path, moves_away):
    network = torch.nn.Linear(3, 2)
    expected = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    folder = TrialFolder(tmp_path)
    with writing_weights(network, folder, moves_away=moves_away) as checksum:
        if moves_away:  # as to another device: the parameters become other tensors
            network.to(torch.float64)
        with torch.no_grad():
            network.weight += 1
        assert len(checksum.result()) == 64
    written = torch.load(folder.weights, weights_only=True)
    assert all(torch.equal(written[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize(
    ("weight", "status"),
    [(1.0, "finished"), (3e38, "finished"), (float("inf"), "non-finite"), (float("nan"), "non-finite")],
)
def test_one_number_that_is_not_finite_is_found_and_a_sum_that_overflows_is_none(weight, status):
    network = torch.nn.Linear(4, 2)
    with torch.no_grad():
        network.weight[0].fill_(3e38 if weight == 3e38 else 1.0)
        network.weight[1, 3] = weight
    assert training_status(network, LEARNED, {}) == status
    assert training_status(torch.nn.Flatten(), LEARNED, {}) == "finished"  # without weights


def test_the_seeds_of_a_bundle_load_their_data_once(small, tmp_path, monkeypatch):
    loads = []
    monkeypatch.setattr(inventory, "load_dataset", lambda *arguments: loads.append(arguments) or object())
    monkeypatch.setattr(trial_process, "_loaded", {})
    settings = Settings.from_environment(tmp_path)
    found = []

    def load():
        with trial_process._loading_turn(lambda: None):
            found.append(trial_process._load_examples(small, settings, lambda: None))

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loads) == 1
    assert found[0] is found[1] is found[2]
    other = Settings.from_environment(tmp_path / "other")
    assert trial_process._load_examples(small, other, lambda: None) is not found[0]


def test_the_peak_of_a_gpu_that_trials_share_is_that_of_all(monkeypatch):
    """A trial's report divides it by their number; a reset would take it from the others."""
    peaks, resets = [5.0], []
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: peaks[-1])
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: resets.append(peaks.append(2.0)))
    first, second = (PeakMemory("cuda", is_shared=True) for _ in range(2))
    peaks.append(11.0)
    assert (first.peak_bytes(), second.peak_bytes(), len(resets)) == (11.0, 11.0, 0)
    alone = PeakMemory("cuda")
    peaks.append(7.0)
    assert (alone.peak_bytes(), len(resets)) == (5.0, 1)
