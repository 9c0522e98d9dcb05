"""What trials take, per trial and per arm; and what is said where there is not so much."""

from dataclasses import replace

import pytest
import pytorch_lightning as lightning
from click.testing import CliRunner

from lightning_modules.specs.errors import InvalidValue
from lightning_modules.specs.networks import Custom
from studies.cli.app import main
from studies.design.verification import describe_data_parallel
from studies.execution.resources import (
    Node,
    ResourceRequest,
    Resources,
    cluster_share_of,
    describe_nodes,
    device_models_of,
)
from studies.hardware import count_cores
from studies.records.digests import platform_digest
from tests.conftest import SMALL as SMALL_SETUP

XEON, EPYC = {"cpu": "Xeon"}, {"cpu": "EPYC"}
SMALL = Node(name="small", cpus=4, gpus=0, device_models=XEON, memory_gib=16)
LARGE = Node(name="large", cpus=16, gpus=2, device_models=EPYC | {"cuda": "H100"}, memory_gib=128)


def test_a_trial_takes_one_core_by_default():
    assert Resources().request_of("A") == ResourceRequest(cpus_per_trial=1, gpus_per_trial=0.0, workers_per_trial=1)


def test_several_gpus_are_a_worker_on_each():
    need = ResourceRequest(gpus_per_trial=4)
    assert (need.workers_per_trial, need.gpus_per_worker, need.device) == (4, 1.0, "cuda")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            {"gpus_per_trial": 1.5},
            r"gpus_per_trial is 1\.5; expected 0 \(no GPU\), a share of one \(0\.5\), or a whole",
        ),
        ({"gpus_per_trial": 2, "workers_per_trial": 3}, "workers_per_trial is 3; expected 1, or as many as the 2 GPUs"),
        ({"cpus_per_trial": 0}, "cpus_per_trial is 0; expected 1 or more"),
    ],
)
def test_what_no_trial_can_take_is_refused(given, told):
    with pytest.raises(InvalidValue, match=told):
        ResourceRequest(**given)


def test_an_arm_may_take_more_and_the_others_take_what_they_took():
    resources = Resources(address="host:6379", cpus_per_trial=2, gpus_per_trial=1).for_arm("E", gpus=2)
    assert resources.request_of("E") == ResourceRequest(cpus_per_trial=2, gpus_per_trial=2, workers_per_trial=2)
    assert resources.request_of("A") == ResourceRequest(cpus_per_trial=2, gpus_per_trial=1)


def test_arms_on_different_kinds_of_device_are_refused():
    with pytest.raises(InvalidValue, match="some arms' trials take a GPU and others none"):
        Resources(address="host:6379").for_arm("E", gpus=1)


def test_a_resource_that_there_is_not_is_named_with_those_that_there_are():
    with pytest.raises(
        InvalidValue,
        match=r"'E' include 'gpu', which is no resource\. Did you mean 'gpus'\? There are: cpus, gpus, workers",
    ):
        Resources(address="host:6379").for_arm("E", gpu=1)


def test_resources_for_an_arm_that_there_is_not_are_refused():
    with pytest.raises(InvalidValue, match=r"given for 'F', which is not an arm\. There are: A, B"):
        Resources().for_arm("F", cpus=1).require_arms(("A", "B"))


def test_more_than_this_machine_has_is_refused_at_once():
    with pytest.raises(InvalidValue, match=rf"workers_per_trial is {count_cores() + 1}; expected 1 to {count_cores()}"):
        Resources(workers_per_trial=count_cores() + 1)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"cpus_per_trial": 17}, "cpus_per_trial is 17; expected 1 to the largest node's 16 cores"),
        ({"gpus_per_trial": 3}, "workers_per_trial is 3; expected 1 to 2: the 2 nodes have no room for more"),
        ({"cpus_per_trial": 8, "workers_per_trial": 3}, "expected 1 to 2"),
    ],
)
def test_more_than_a_cluster_has_is_refused_when_its_nodes_are_known(given, told):
    with pytest.raises(InvalidValue, match=told):
        Resources(address="host:6379", **given).require_capacity([SMALL, LARGE])


@pytest.mark.parametrize(
    ("need", "share"),
    [
        (ResourceRequest(), 1 / 20),
        (ResourceRequest(cpus_per_trial=3), 1 / 6),  # one on the small node, five on the large
        (ResourceRequest(gpus_per_trial=0.25), 1 / 8),
        (ResourceRequest(gpus_per_trial=0.1), 1 / 16),  # ten on each GPU, but one per core
        (ResourceRequest(gpus_per_trial=0.6), 1 / 2),  # one on each GPU: what is left of two is no third place
        (ResourceRequest(gpus_per_trial=2), 1),
        (ResourceRequest(cpus_per_trial=4, workers_per_trial=2), 2 / 5),
    ],
)
def test_a_trials_share_of_all_machines_counts_how_many_fit(need, share):
    assert cluster_share_of(need, [SMALL, LARGE]) == pytest.approx(share)


def test_machines_of_other_models_are_another_platform():
    """Else a result from one would be taken for the bits that the other gives."""
    one, both = device_models_of([SMALL, SMALL], "cpu"), device_models_of([SMALL, LARGE], "cpu")
    assert one == ("Xeon",)
    assert both == ("EPYC", "Xeon")
    digests = {platform_digest("cpu", 1, models) for models in (one, both, ("EPYC",), ())}
    assert len(digests) == 4


def test_threads_and_workers_of_a_trial_are_part_of_its_platform():
    digests = {platform_digest("cpu", threads, ("Xeon",), workers) for threads in (1, 2) for workers in (1, 2)}
    assert len(digests) == 4


def test_like_machines_are_told_together():
    told = describe_nodes([SMALL, replace(SMALL, name="another"), LARGE], Resources())
    assert told == ("2 nodes of 4 cores of Xeon, 16 GiB memory, no GPU; 16 cores of EPYC, 128 GiB memory, no GPU")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("E", "'E' is not of the form ARM:gpus=2,cpus=4"),
        ("E:cpus=two", "'E:cpus=two' is not of the form"),
        ("E:gpu=2", "Did you mean 'gpus'?"),
    ],
)
def test_the_command_line_says_how_an_arms_resources_are_written(given, told):
    shown = CliRunner().invoke(main, ["run", "depth", "--for-arm", given, "--dry-run"])
    assert shown.exit_code == 2
    assert told in shown.output


def test_what_several_workers_synchronise_is_told_by_arm():
    norms = replace(SMALL_SETUP, network=replace(SMALL_SETUP.network, norm="batch"))
    told = describe_data_parallel(
        {"A": SMALL_SETUP, "A, batch norm": norms, "B": norms}, {"A": 2, "A, batch norm": 4, "B": 1}.get
    )
    assert told == [
        "A: 2 workers per trial, each on 32 of the 64 examples of a batch; it has no batch norm",
        "A, batch norm: 4 workers per trial, each on 16 of the 64 examples of a batch; "
        "its 8 batch norms take mean and variance over the whole batch",
    ]


def test_more_workers_than_examples_in_a_batch_are_refused():
    alone = replace(SMALL_SETUP, recipe=replace(SMALL_SETUP.recipe, batch_size=1))
    with pytest.raises(
        InvalidValue, match="A has batches of 1, and its trials are to have 2 workers; expected at most 1"
    ):
        describe_data_parallel({"A": alone}, lambda _: 2)


class TrainsItself(lightning.LightningModule):
    """A module with a training of its own."""


def test_several_workers_for_a_module_that_trains_itself_are_refused_before_anything_runs():
    foreign = replace(SMALL_SETUP, network=Custom(class_path=f"{__name__}.TrainsItself"))
    with pytest.raises(InvalidValue, match="TrainsItself of A trains itself, and its trials are to have 2 workers"):
        describe_data_parallel({"A": foreign}, lambda _: 2)
