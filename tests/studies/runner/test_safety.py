"""Safe by default: nothing read executes code or leaves its folder, no secret is kept, servers stay on loopback."""

import io
import json
import os
import pickle
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from lightning_modules.stored_files import dump_json
from studies.cli.app import main
from studies.design.declare import declare
from studies.records.results import failed_result
from studies.records.serialization import results_from_table
from studies.settings import Settings, SettingsError, redact_credentials, require_plain_name
from studies.storage import manifest
from studies.storage.trial_folder import TrialFolder
from studies.training.checkpoints import load_checkpoint
from tests.studies.conftest import SECRET

pytestmark = pytest.mark.xdist_group("one recorded study")

URI = "postgresql://me:hun@ter2@db/mlflow?password=hunter3"
SECRETS = ("ter2", "hunter3", "me:")
OUTSIDE = ("../other", "..", "/etc", "a/b", "a\\b", ".hidden", "", "a\0b")


class Bomb:
    """Unpickling it makes a folder: the sign that code was executed."""

    def __init__(self, sign):
        self.sign = str(sign)

    def __reduce__(self):
        return (os.mkdir, (self.sign,))


def call(*arguments, code=0):
    shown = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert shown.exit_code == code, shown.output
    return " ".join(shown.output.split())


def hostile_array(sign):
    stream = io.BytesIO()
    np.save(stream, np.array([Bomb(sign)], dtype=object), allow_pickle=True)
    return stream.getvalue()


# -- no code is executed -------------------------------------------------------------------------------------------


def test_the_bomb_goes_off_where_one_lets_it(tmp_path):
    pickle.loads(pickle.dumps(Bomb(tmp_path / "sign")))
    assert (tmp_path / "sign").exists()


def test_predictions_that_carry_code_are_no_predictions(tmp_path):
    spool = TrialFolder(tmp_path / "trial")
    spool.write_result(failed_result("f", {}, "told"))
    assert spool.read_result() is not None
    (spool.folder / "predictions.npy").write_bytes(hostile_array(tmp_path / "sign"))
    assert spool.read_result() is None
    assert not (tmp_path / "sign").exists()


def test_a_checkpoint_that_carries_code_is_refused(tmp_path):
    torch.save({"schema": 1, "state": Bomb(tmp_path / "sign")}, tmp_path / "checkpoint.ckpt")
    with pytest.raises(pickle.UnpicklingError):
        load_checkpoint(tmp_path / "checkpoint.ckpt")
    assert not (tmp_path / "sign").exists()


def test_a_record_that_carries_code_is_refused(recorded, tmp_path):
    from studies.records.serialization import results_table

    table = results_table(recorded.record.trials[:1]).assign(predictions=[hostile_array(tmp_path / "sign")])
    damages = []
    assert results_from_table(table, "results.parquet", damages.append, is_verified=False) == {}
    assert "its checksum does not match" in str(damages[0])
    assert results_from_table(table, "results.parquet", damages.append, is_verified=True) == {}
    assert not (tmp_path / "sign").exists()


def test_every_reader_of_arrays_and_weights_says_so():
    """A reader added later is to say it as well: for ``torch.load`` and ``np.load``, silence depends on the version."""
    root = Path(manifest.__file__).parents[2]
    files = [
        file
        for folder in ("lightning_modules", "ablations", "studies", "reports")
        for file in (root / folder).rglob("*.py")
    ]
    silent = []
    for file in files:
        text = file.read_text()
        for found in re.finditer(r"\b(np\.load|torch\.load|pickle\.loads?|read_pickle|joblib\.load)\(", text):
            arguments = text[found.end() : found.end() + 200]
            if "allow_pickle=False" not in arguments and "weights_only=True" not in arguments:
                silent.append(f"{file.name}: {found[0]}")
    assert len(files) > 100
    assert silent == []


# -- nothing leaves its folder -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_name_that_leads_out_of_its_folder_is_refused(name, tmp_path):
    with pytest.raises(SettingsError, match="expected a plain name"):
        require_plain_name(name, "a trial")
    with pytest.raises(SettingsError, match="a report is named"):
        Settings.from_environment(tmp_path).report_folder(name)


@pytest.mark.parametrize("key", ["entries", "candidates"])
def test_a_plan_that_names_a_folder_elsewhere_is_refused_and_frees_nothing(copied, key):
    file = manifest.list_study_folders(Settings.from_environment(copied.runs))[0] / "study.json"
    data = json.loads(file.read_text())
    data[key] = ["../../elsewhere"] if key == "candidates" else [data[key][0] | {"folder": "../../elsewhere"}]
    file.write_bytes(dump_json(data))  # forged with its checksum, which is no signature
    assert "is named '../../elsewhere'" in call("sync", "--runs", copied.runs, code=2)
    assert "is named '../../elsewhere'" in call("gc", "--yes", "--weights", "--runs", copied.runs)
    assert len(list(copied.runs.glob("trials/*/weights.pt"))) == 8


def test_a_study_in_the_record_whose_name_leads_elsewhere_gets_no_report(copied, monkeypatch):
    hostile = replace(copied.record, registration=replace(copied.record.registration, study="../../elsewhere"))
    monkeypatch.setattr("studies.tracking.reader.StudyReader.read_study", lambda *_, **__: hostile)
    shutil.rmtree(copied.runs / "reports", ignore_errors=True)
    assert "a report is named '../../elsewhere-digits-with-" in call("report", "depth", "--runs", copied.runs, code=2)
    assert not (copied.runs / "reports").exists()


@pytest.mark.parametrize("path", ["recipe.__class__", "__dict__", "recipe.epochs.__class__", "recipe/../epochs"])
def test_an_override_reaches_fields_and_nothing_else(path):
    with pytest.raises(ValueError, match=r"has no field|names no"):
        declare("depth", "digits", None, {path: "1"})


# -- nothing secret is kept ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (URI, "postgresql://db/mlflow"),
        ("http://bob:secret@host:5000/path", "http://host:5000/path"),
        ("mysql+pymysql://bob:p%40ss@db:3306/mlflow?ssl_key=x", "mysql+pymysql://db:3306/mlflow"),
        ("sqlite:////home/me/runs/mlflow.db", "sqlite:////home/me/runs/mlflow.db"),
        ("no address, me@host.org? yes", "no address, me@host.org? yes"),
    ],
)
def test_addresses_are_kept_without_credentials(given, kept):
    assert redact_credentials(given) == kept


def test_what_a_trial_failed_of_is_kept_without_credentials(tmp_path):
    result = failed_result("f", {}, f"Traceback\n  OperationalError: cannot reach {URI}\nmore")
    spool = TrialFolder(tmp_path)
    spool.record_fault(f"lost {URI}")
    for text in (result.error, *spool.faults):
        assert "postgresql://db/mlflow" in text
        assert not any(secret in text for secret in SECRETS)


@pytest.mark.parametrize(
    "command", [("report", "depth"), ("sync",), ("doctor",), ("gc", "--yes"), ("run", "depth", "--dry-run")]
)
def test_no_command_tells_the_password_of_a_store_that_does_not_answer(copied, command):
    uri = "postgresql://me:hunter2@127.0.0.1:1/mlflow?password=hunter3"
    shown = CliRunner().invoke(main, [*command, "--runs", str(copied.runs), "--tracking-uri", uri])
    assert not any(secret in shown.output for secret in ("hunter2", "hunter3"))
    assert isinstance(shown.exception, SystemExit | None)


def test_a_store_of_no_known_kind_is_named_without_its_password():
    with pytest.raises(SettingsError, match=r"the tracking URI is 'redis://db/0'"):
        Settings.from_environment(None, None, "redis://me:hunter2@db/0")


def test_neither_a_password_nor_the_environment_reaches_record_or_report(recorded):
    """Of a whole study: every file and the database, searched for what the environment held when it ran."""
    assert any(file.name == "mlflow.db" for file in recorded.runs.iterdir())
    for file in recorded.runs.rglob("*"):
        if file.is_file():
            assert SECRET.encode() not in file.read_bytes(), file


# -- servers stay on loopback --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_ui_listens_on_loopback_and_hides_the_address_of_its_store(copied):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = ["ui", "--runs", copied.runs, "--port", port]
    server = subprocess.Popen(
        [sys.executable, "-m", "studies.cli", *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert listening(port, server) == {"0100007F"}
        assert "mlflow.db" not in Path(f"/proc/{server.pid}/cmdline").read_text()
        address = f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/get-by-name?experiment_name=depth"
        with urllib.request.urlopen(address, timeout=60) as answer:
            assert b"depth" in answer.read()
    finally:
        server.terminate()
        server.wait(30)


def listening(port, server):
    """Addresses, in hexadecimal, on which anybody listens at a port, of both families."""
    until = time.monotonic() + 120
    while time.monotonic() < until and server.poll() is None:
        lines = [
            line.split() for kind in ("tcp", "tcp6") for line in Path(f"/proc/net/{kind}").read_text().splitlines()[1:]
        ]
        found = {line[1].partition(":")[0] for line in lines if line[1].endswith(f":{port:04X}") and line[3] == "0A"}
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError("the UI did not start")


def test_a_ui_for_others_says_what_that_means(copied, monkeypatch):
    monkeypatch.chdir(copied.runs)  # the server starts in the runs folder; this brings the tests back
    started = []
    monkeypatch.setattr(os, "execv", lambda *arguments: started.append(arguments))
    shown = call("ui", "--runs", copied.runs, "--host", "0.0.0.0")
    assert "anyone who can reach 0.0.0.0:5000 can read, change and delete runs" in shown
    assert "0.0.0.0" in started[0][1]
    assert "can read" not in call("ui", "--runs", copied.runs)
