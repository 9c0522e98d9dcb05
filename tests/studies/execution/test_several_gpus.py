"""Bundles over several GPUs: Ray's logical ones, with trials that compute on the CPU."""

from dataclasses import replace
from pathlib import Path

import pytest

from lightning_modules.specs.errors import InvalidValue
from studies.design.trial import Trial
from studies.execution.jobs import TrialJob, TrialListener
from studies.execution.processes.bundle_size import find_bundle_size
from studies.execution.resources import Node, ResourceRequest, Resources, describe_device
from studies.hardware import count_cores
from studies.settings import Settings
from studies.storage.trial_folder import TrialFolder
from tests.studies.execution.card_log import prepare_log, read_log

TWO_GPUS = Node(name="this machine", cpus=4, gpus=2, device_models={"cpu": "CPU", "cuda": "H100"}, gpu_models=("H100",))


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(Node, "this_machine", staticmethod(lambda: TWO_GPUS))


@pytest.fixture(scope="module")
def ray_with_two_gpus():
    """Ray with two GPUs that are only counted: no driver is asked."""
    import ray

    from studies.scratch import process_folder

    if ray.is_initialized():
        ray.shutdown()
    ray.init(
        address="local", num_cpus=4, num_gpus=2, include_dashboard=False, log_to_driver=False,
        _temp_dir=str(process_folder()),
    )  # fmt: skip
    yield
    ray.shutdown()


class Events(TrialListener):
    """What the driver hears of the trials."""

    def __init__(self):
        self.ended, self.faults = [], []

    def on_end(self, job):
        self.ended.append(job.folder.name)

    def on_fault(self, *told):
        self.faults.append(told)

    on_lost = on_fault


def dispatch_on_cpu(monkeypatch, jobs, resources, num_at_once, bundle_size=1):
    """Run jobs where Ray places them, each computing on the CPU; return the uses of the cards and the events."""
    from studies.execution.cluster import tune_executor
    from tests.studies.execution.cpu_worker import CpuWorker

    log_folder = prepare_log(jobs, num_at_once)
    monkeypatch.setattr(tune_executor, "_TrialWorker", CpuWorker)
    events = Events()
    settings = Settings.from_environment(log_folder / "runs")
    tune_executor.dispatch_jobs(jobs, settings, resources, events, bundle_size)
    return read_log(log_folder), events


def make_jobs(setup, folder, arms, seeds):
    trials = [Trial(arm=arm, setup=setup, seed=seed) for seed in range(seeds) for arm in arms]
    return [TrialJob(trial=trial, folder=folder / f"{trial.arm}{trial.seed}", digests={}) for trial in trials]


def most_at_once(uses):
    """The largest number of processes that a card ever had; one that has written its results counts no more."""
    return max(sum(other.began <= use.began < other.ended for other in uses) for use in uses)


@pytest.mark.slow
def test_bundles_are_spread_over_the_cards_each_with_one_to_itself(
    ray_with_two_gpus, two_gpus, small, tmp_path, monkeypatch
):
    jobs = make_jobs(small, tmp_path, ("A", "B"), 4)
    uses, events = dispatch_on_cpu(monkeypatch, jobs, Resources(), num_at_once=2, bundle_size=2)
    assert events.faults == []
    assert sorted(events.ended) == sorted(job.folder.name for job in jobs)
    assert {use.trials for use in uses} == {("A0", "A1"), ("A2", "A3"), ("B0", "B1"), ("B2", "B3")}
    by_card = {card: [use for use in uses if use.card == card] for card in ("0", "1")}
    assert all(by_card.values())
    assert sum(map(len, by_card.values())) == len(uses)  # each process sees one card
    assert [most_at_once(card) for card in by_card.values()] == [1, 1]
    results = [TrialFolder(job.folder).read_result() for job in jobs]
    assert {result.status for result in results} <= {"finished", "at chance"}  # after one epoch
    assert {result.environment["bundle_size"] for result in results} == {2}


@pytest.mark.slow
def test_trials_with_half_a_card_are_two_on_each(ray_with_two_gpus, two_gpus, small, tmp_path, monkeypatch):
    jobs = make_jobs(small, tmp_path, ("A", "B"), 3)
    uses, events = dispatch_on_cpu(monkeypatch, jobs, Resources(gpus_per_trial=0.5), num_at_once=4)
    assert (events.faults, len(events.ended)) == ([], 6)
    for card in ("0", "1"):
        assert most_at_once([use for use in uses if use.card == card]) == 2


def test_a_study_is_told_of_all_cards_and_no_bundle_leaves_one_idle(two_gpus, small):
    resources = Resources()
    assert describe_device(Node.this_machine(), resources) == "2 GPUs, H100"
    jobs = make_jobs(small, Path(), ("A",), 3)
    nodes = [replace(TWO_GPUS, device_models={})]
    sizes = {
        count: find_bundle_size(jobs[:count], replace(resources, address="head:6379"), nodes, Path(), [].append)
        for count in (1, 2, 3)
    }
    assert sizes == {1: 1, 2: 1, 3: 2}


def test_cards_of_two_models_are_refused_with_what_to_do(monkeypatch):
    mixed = replace(TWO_GPUS, gpu_models=("RTX 3090", "RTX 2080"), cpus=count_cores())
    monkeypatch.setattr(Node, "this_machine", staticmethod(lambda: mixed))
    with pytest.raises(
        InvalidValue,
        match=r"0, or GPUs of one model, chosen by CUDA_VISIBLE_DEVICES: this machine has "
        r"RTX 3090 and RTX 2080, which do not compute the same bits",
    ):
        Resources()
    assert Resources(gpus_per_trial=0).device == "cpu"


def test_two_cards_have_no_room_for_three_trials_of_more_than_half_a_card():
    assert TWO_GPUS.max_workers(ResourceRequest(gpus_per_trial=0.6)) == 2
    assert TWO_GPUS.max_workers(ResourceRequest(gpus_per_trial=0.5)) == 4
