"""The measured latency: medians over processes, what disturbed it, its JSON form."""

import json
from dataclasses import replace

import pytest

from lightning_modules.specs.errors import DamagedFileError
from lightning_modules.stored_files import dump_json
from studies.latency.measurement import (
    ArmLatency,
    LatencyMeasurement,
    measurement_from_json,
    measurement_to_json,
    read_measurement,
)


def arm_latency(arm="A", p50=(1.00e-3, 1.01e-3, 1.02e-3, 1.01e-3, 1.00e-3), batch_size=1):
    return ArmLatency(
        arm=arm,
        batch_size=batch_size,
        p50=p50,
        p95=tuple(1.1 * value for value in p50),
        p99=tuple(1.2 * value for value in p50),
        calls=(1000,) * len(p50),
    )


def measurement(**fields):
    quiet = LatencyMeasurement(
        time="2026-11-27T15:00:00+00:00",
        device="cpu",
        device_name="CPU X",
        threads=1,
        cores=8,
        image_shape=(1, 32, 32),
        versions={"torch": "2.9.1"},
        load_average=0.1,
        other_cores=(0.05, 0.1, 0.02, 0.05, 0.05),
        arms=(arm_latency(), arm_latency("B"), arm_latency("A", batch_size=8)),
        skipped={"C": "it evaluates networks of other arms"},
    )
    return replace(quiet, **fields)


def test_a_measurement_survives_its_json():
    text = json.dumps(measurement_to_json(measurement()))
    assert measurement_from_json(json.loads(text)) == measurement()


def test_one_disturbed_process_does_not_move_the_median():
    latency = arm_latency(p50=(1.0e-3, 1.0e-3, 9.0e-3, 1.0e-3, 1.0e-3))
    assert latency.median("p50") == 1.0e-3
    assert latency.spread("p50") == pytest.approx(8)


def test_an_arm_is_found_by_its_batch_size():
    assert measurement().batch_sizes == (1, 8)
    assert measurement().find("A").batch_size == 1
    assert measurement().find("A", 8).batch_size == 8
    assert measurement().find("B", 8) is None


def test_the_machine_is_told_with_its_threads():
    assert measurement().hardware == "CPU X, 1 thread of 8 cores, torch 2.9.1"


def test_a_quiet_machine_has_no_disturbance():
    assert measurement().disturbances == ()


def test_other_processes_are_told_where_they_could_slow_a_call():
    assert measurement(other_cores=(0.1, 0.7, 0.1, 0.1, 0.1)).disturbances == ()  # less than a tenth of 8 cores
    (told,) = measurement(other_cores=(0.1, 0.7, 0.1, 0.1, 0.1), cores=2).disturbances
    assert told == "Other processes kept up to 0.7 of 2 cores busy meanwhile."


def test_the_load_average_is_read_where_the_kernel_tells_no_more():
    (told,) = measurement(other_cores=(), load_average=3.2).disturbances
    assert told == "The load average before the start was 3.2 on 8 cores."
    assert measurement(other_cores=(), load_average=None).disturbances == ()


def test_a_spread_between_processes_is_told_once_per_percentile():
    uneven = arm_latency("B", p50=(1.0e-3, 1.0e-3, 1.2e-3, 1.0e-3, 1.0e-3))
    (told,) = measurement(arms=(arm_latency(), uneven)).disturbances
    assert told.startswith("P50 of B at batch 1 differs by 20% between processes")


def test_a_damaged_file_says_what_to_do(tmp_path):
    file = tmp_path / "latency.json"
    file.write_bytes(dump_json(measurement_to_json(measurement()), indent=2))
    assert read_measurement(file) == measurement()
    file.write_text('{"schema": 1}', encoding="utf-8")
    with pytest.raises(DamagedFileError, match="`ablate latency` of this study measures it again"):
        read_measurement(file)


ARM_DATA = measurement_to_json(measurement())["arms"][0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "it has schema 2; expected 1"),
        ({"arms": [ARM_DATA | {"p50": [1e-3, 1e-3, -1e-3, 1e-3, 1e-3]}]}, "a duration of A is not above 0"),
        ({"arms": [ARM_DATA | {"p50": [1e-3]}]}, "the values of A do not belong together"),
    ],
)
def test_damaged_measurements_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        measurement_from_json(measurement_to_json(measurement()) | change)
