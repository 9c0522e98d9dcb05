"""Latency is measured in fresh processes, in which the arms take turns."""

import pytest

from lightning_modules.specs.catalogue import NETWORKS
from lightning_modules.specs.errors import UserError
from lightning_modules.specs.networks import Custom
from lightning_modules.specs.scale import Scale
from lightning_modules.specs.setup import Setup
from studies.latency.processes import LatencyPlan, measure_latency
from studies.latency.timing import MIN_CALLS_PER_TURN, TimedNetwork

SCALE = Scale(resolution=32, channels=1, classes=10, width=0.0625)


def test_a_turn_times_all_calls_but_the_first_ones():
    calls = []
    network = TimedNetwork(arm="A", batch_size=1, call=lambda: calls.append(1))
    network.take_turn()
    assert len(calls) == MIN_CALLS_PER_TURN + 2
    data = network.as_data()
    assert data["calls"] == MIN_CALLS_PER_TURN
    assert 0 < data["p50"] <= data["p95"] <= data["p99"]


@pytest.mark.slow
def test_the_deeper_network_takes_longer_in_every_process():
    setups = {name: Setup(network=NETWORKS[f"vgg-{name.lower()}"], scale=SCALE) for name in ("A", "E")}
    plan = LatencyPlan(
        setups=setups, batch_sizes=(1, 16), device="cpu", threads=1, num_processes=2, seconds=0.2, skipped={"X": "why"}
    )
    log = []
    measured = measure_latency(plan, log.append)
    assert log == ["process 1 of 2", "process 2 of 2"]
    assert [(arm.arm, arm.batch_size) for arm in measured.arms] == [("A", 1), ("A", 16), ("E", 1), ("E", 16)]
    for small, large in zip(measured.find("A").p50, measured.find("E").p50, strict=True):
        assert small < large
    assert measured.find("A").median("p50") < measured.find("A", 16).median("p50")
    assert min(measured.find("E").calls) >= 100
    assert measured.image_shape == (1, 32, 32)
    assert measured.skipped == {"X": "why"}


@pytest.mark.slow
def test_a_network_that_cannot_be_built_is_told_in_one_line():
    setup = Setup(network=Custom(class_path="no_such_module.Net"), scale=SCALE)
    plan = LatencyPlan(setups={"A": setup}, batch_sizes=(1,), device="cpu", threads=1, num_processes=2)
    with pytest.raises(UserError, match=r"Latency cannot be measured: 'no_such_module.Net' cannot be imported"):
        measure_latency(plan, lambda _: None)
