"""`ablate latency` on a recorded study."""

import json

import jsonschema
import pytest
from click.testing import CliRunner

from studies.cli.app import main
from studies.latency.measurement import read_measurement
from tests.studies.cli.test_machine_interface import COMMANDS


def call(*arguments, code=0):
    shown = CliRunner().invoke(main, ["latency", *map(str, arguments)])
    assert shown.exit_code == code, shown.output
    return shown


@pytest.mark.slow
def test_latency_is_measured_and_recorded_with_the_study(copied):
    options = ("depth", "--runs", copied.runs, "--processes", 2, "--seconds", 0.1)
    shown = call(*options, "--batch-size", 2, "--json")
    data = json.loads(shown.stdout)
    jsonschema.validate(data, COMMANDS["latency"])
    assert [(arm["arm"], arm["batch_size"]) for arm in data["arms"]][:2] == [("A", 1), ("A", 2)]
    assert "process 2 of 2" in shown.stderr
    (file,) = copied.runs.glob("studies/*/latency.json")
    stored = read_measurement(file)
    record = copied.store.reader.read_study("depth")
    assert record.latency == stored
    assert stored.find("A", 2).median("p50") == pytest.approx(data["arms"][1]["p50"]["median"])
    assert list(copied.store.reader.find_study_damage(record.run_id)) == []
    # Another record of the same runs folder gets it from the study's folder.
    other_store = ("--tracking-uri", f"sqlite:///{copied.runs}/other.db")
    synced = CliRunner().invoke(main, ["sync", "--runs", str(copied.runs), *other_store])
    assert synced.exit_code == 0, synced.output
    choice = CliRunner().invoke(
        main, ["choose", "depth", "--runs", str(copied.runs), *other_store, "--latency", "1s", "--json"]
    )
    assert "latency" in json.loads(choice.stdout)["budget"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("depth.zip",), "depth.zip is an archive, which is read only; `ablate import depth.zip` unpacks it first."),
        (("depth", "--threads", "100000"), "--threads is 100000; expected 1 to"),
        (("depth", "--batch-size", "0"), "0 is not in the range 1<=x<=65536"),
        (("depth", "--processes", "1"), "1 is not in the range 2<=x<=100"),
    ],
)
def test_misuse_is_one_clear_line(arguments, message):
    assert message in " ".join(call(*arguments, code=2).output.split())
