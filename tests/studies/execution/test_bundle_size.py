"""How many seeds share a process: what is asked for, what fits, and what is measured."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from lightning_modules.specs.data import ForeignData
from lightning_modules.specs.errors import InvalidValue
from lightning_modules.specs.networks import Custom
from studies.design.trial import Trial
from studies.execution.jobs import TrialJob
from studies.execution.processes import bundle_size, bundle_timing
from studies.execution.processes.best_size import BestSize
from studies.execution.processes.bundle_size import DEFAULT_SIZE, can_join_bundle, find_bundle_size
from studies.execution.processes.bundle_timing import BundleTiming, choose_size, measure_best_size, measure_bundle
from studies.execution.resources import Node, Resources

GPU_NODE = Node(name="node", cpus=16, gpus=1, device_models={"cpu": "CPU", "cuda": "H100"})


@pytest.fixture
def with_gpu(monkeypatch):
    monkeypatch.setattr(Node, "this_machine", staticmethod(lambda: GPU_NODE))


def make_jobs(small, count):
    trials = [Trial(arm="A", setup=small, seed=seed) for seed in range(count)]
    return [TrialJob(trial=trial, folder=Path(str(trial.seed)), digests={}) for trial in trials]


def find(jobs, resources, folder, nodes=(GPU_NODE,)):
    messages = []
    return find_bundle_size(jobs, resources, nodes, folder, messages.append), messages


def record_measurements(monkeypatch, best):
    """The setups that are measured from now on, each with the same outcome."""
    measured = []

    def measure(setup):
        measured.append(setup)
        return best

    monkeypatch.setattr(bundle_size, "_measure_in_child", measure)
    return measured


def test_where_there_is_a_gpu_a_trial_gets_one_and_else_none(with_gpu):
    assert Resources().gpus_per_trial == 1
    assert Resources().device == "cuda"
    assert Resources(gpus_per_trial=0).device == "cpu"
    assert Resources(workers_per_trial=2).device == "cpu"


def test_without_a_gpu_auto_means_the_cpu():
    assert Resources().device == "cpu"


def test_on_a_cluster_its_nodes_decide():
    undecided = Resources(address="head:6379")
    assert undecided.for_nodes([GPU_NODE]).device == "cuda"
    assert undecided.for_nodes([replace(GPU_NODE, gpus=0)]).device == "cpu"
    assert undecided.gpus_per_trial == "auto"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"bundle_size": 0}, r"bundle_size is 0; expected auto, or 1 or more"),
        ({"bundle_size": 2, "gpus_per_trial": 0.5}, r"bundle_size is 2; expected 1 where a trial has a share of a GPU"),
        ({"bundle_size": 2, "workers_per_trial": 2}, r"bundle_size is 2; expected 1 where"),
        (
            {"bundle_size": 4, "max_concurrent": 2},
            r"bundle_size is 4; expected 1 to 2: max_concurrent counts the trials of a bundle one by one",
        ),
        ({"bundle_size": "many"}, r"bundle_size is 'many'; expected"),
        ({"gpus_per_trial": "some"}, r"gpus_per_trial is 'some'; expected"),
    ],
)
def test_bundles_that_cannot_be_are_refused(with_gpu, given, message):
    with pytest.raises(InvalidValue, match=message):
        Resources(**given)


def test_only_what_draws_nothing_from_the_process_shares_one(small):
    assert can_join_bundle(small)
    assert not can_join_bundle(replace(small, network=Custom(class_path="torchvision.models.alexnet")))
    assert not can_join_bundle(replace(small, data=ForeignData(class_path="mine.Data")))
    assert not can_join_bundle(replace(small, recipe=replace(small.recipe, trains="linear classifier")))


def test_a_number_is_taken_and_a_cpu_bundles_only_then(small, tmp_path):
    assert find(make_jobs(small, 5), Resources(bundle_size=3), tmp_path) == (3, [])
    assert find(make_jobs(small, 5), Resources(), tmp_path) == (1, [])


def test_a_share_of_a_gpu_switches_bundles_off(with_gpu, small, tmp_path):
    assert find(make_jobs(small, 8), Resources(gpus_per_trial=0.25), tmp_path) == (1, [])


def test_what_was_measured_is_kept_and_no_gpu_stays_idle(with_gpu, small, tmp_path, monkeypatch):
    calls = record_measurements(monkeypatch, BestSize(8, 30, "a step takes each of them 1 ms with 8"))
    size, messages = find(make_jobs(small, 20), Resources(), tmp_path)
    assert (size, len(calls)) == (8, 1)
    assert messages == ["8 seeds of an arm are trained at once on a GPU: a step takes each of them 1 ms with 8"]
    assert find(make_jobs(small, 20), Resources(), tmp_path) == (8, [])
    four = replace(GPU_NODE, gpus=4)
    assert find(make_jobs(small, 20), Resources(), tmp_path, (four,)) == (5, [])  # 20 trials on four GPUs
    assert find(make_jobs(small, 20), Resources(max_concurrent=3), tmp_path) == (3, [])
    assert len(calls) == 1
    microbatched = replace(small, recipe=replace(small.recipe, microbatch=2))  # another step, which takes less memory
    assert find(make_jobs(microbatched, 20), Resources(), tmp_path)[0] == 8
    assert len(calls) == 2
    (tmp_path / bundle_size.CACHE_FILE).write_text("[torn")
    assert find(make_jobs(small, 20), Resources(), tmp_path)[0] == 8
    assert len(calls) == 3


@pytest.mark.parametrize(
    ("measured", "seeds", "size"),
    [
        (BestSize(4, 30, "4 ms"), 5, 5),  # not four, and then one alone
        (BestSize(4, 4, "4 ms"), 5, 4),  # five do not fit the memory
        (BestSize(4, 30, "4 ms"), 6, 4),
        (BestSize(8, 30, "8 ms"), 5, 5),
        (BestSize(1, 30, "1 ms"), 2, 1),  # bundles gain nothing
        (BestSize(1, 1, "too much memory with 2"), 5, 1),
        (BestSize(0, 0, "no driver"), 3, 3),
    ],
)
def test_the_last_seed_does_not_train_alone_and_the_size_that_is_used_is_told(
    with_gpu, small, tmp_path, monkeypatch, measured, seeds, size
):
    record_measurements(monkeypatch, measured)
    found, (message,) = find(make_jobs(small, seeds), Resources(), tmp_path)
    assert found == size
    assert message.startswith(f"{size} seeds of an arm are trained at once")
    assert measured.description in message


def test_the_setup_of_the_costliest_step_is_measured(with_gpu, small, tmp_path, monkeypatch):
    measured = record_measurements(monkeypatch, BestSize(2, 4, "2 ms with 2"))
    larger = replace(small, recipe=replace(small.recipe, batch_size=2 * small.recipe.batch_size))
    jobs = [*make_jobs(small, 2), *make_jobs(larger, 2), *make_jobs(small, 2)]
    find(jobs, Resources(), tmp_path)
    assert [setup.recipe.batch_size for setup in measured] == [larger.recipe.batch_size]


def simulate(monkeypatch, milliseconds, fits=8):
    """Bundles of some sizes, each network in 10 GB of a GPU of 100 GB; beyond ``fits`` they run out of memory."""

    def measure(setup, device_name, size):
        sizes.append(size)
        if size > fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return BundleTiming(milliseconds[size] / 1000, 10e9 * size)

    sizes = []
    monkeypatch.setattr(bundle_timing, "measure_bundle", measure)
    properties = SimpleNamespace(total_memory=100e9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    return sizes


def test_a_size_that_runs_out_of_memory_ends_the_measurement_and_not_its_result(small, monkeypatch):
    simulate(monkeypatch, {1: 2.4, 2: 1.8}, fits=2)
    assert measure_best_size(small, "cuda") == BestSize(
        2, 8, "a step takes each of them 2.4 ms with 1, 1.8 ms with 2, too much memory with 4"
    )
    simulate(monkeypatch, {}, fits=0)
    assert measure_best_size(small, "cuda")[:2] == (1, 1)


def test_one_noisy_pair_does_not_end_the_measurement(small, monkeypatch):
    sizes = simulate(monkeypatch, {1: 2.3, 2: 2.26, 4: 1.5, 8: 1.4})
    assert measure_best_size(small, "cuda").size == 8
    assert sizes == [1, 2, 4, 8]
    sizes = simulate(monkeypatch, {1: 2.3, 2: 2.3, 4: 2.3, 8: 1.4})
    assert measure_best_size(small, "cuda").size == 1
    assert sizes == [1, 2, 4]


def test_where_nothing_can_be_measured_a_default_is_taken_and_said(with_gpu, small, tmp_path):
    """The child is forked for real, and finds no GPU on this machine."""
    size, messages = find(make_jobs(small, 20), Resources(), tmp_path)
    assert size == DEFAULT_SIZE
    assert messages[0].startswith("4 seeds of an arm are trained at once, as the best number is not known: ")
    assert "CUDA" in messages[0] or "NVIDIA" in messages[0]


@pytest.mark.parametrize(
    ("milliseconds", "gigabytes", "chosen"),
    [
        ((2.4, 1.9, 1.6, 1.7), (1, 2, 4, 8), 4),
        ((2.3, 1.5, 1.16, 1.04), (1, 2, 4, 8), 8),
        ((5.1, 5.0, 5.0, 5.0), (1, 2, 4, 8), 1),
        ((2.3, 1.5, 1.16, 1.04), (20, 40, 80, 160), 2),
        ((2.3, 1.5, 1.16, 1.04), (90, 180, 360, 720), 1),
    ],
)
def test_the_smallest_bundle_that_gains_all_and_fits_is_chosen(milliseconds, gigabytes, chosen):
    sizes = bundle_timing.SIZES
    timings = {
        size: BundleTiming(seconds / 1000, memory * 1e9)
        for size, seconds, memory in zip(sizes, milliseconds, gigabytes, strict=True)
    }
    assert choose_size(timings, 80e9) == chosen


def test_steps_of_several_networks_are_timed_together(small, monkeypatch):
    monkeypatch.setattr(bundle_timing, "TIMED_STEPS", 8)
    assert 0 < measure_bundle(small, "cpu", 2).seconds_per_step < 5


def test_a_network_that_fails_ends_the_measurement(small):
    broken = replace(small, network=Custom(class_path="torch.nn.Flatten"))
    with pytest.raises(RuntimeError, match="does not require grad"):
        measure_bundle(broken, "cpu", 2)


def test_a_driver_that_chooses_holds_no_gpu():
    code = "import sys; import studies.execution.processes.bundle_size; print('torch' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (shown.stdout, shown.stderr) == ("False\n", "")
