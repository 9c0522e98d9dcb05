"""A whole study and its report through an MLflow server on PostgreSQL, as `examples/mlflow_server.sh` starts them."""

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

import pytest
import yaml

import reports
import studies
from studies.maintenance import tracking_checks
from studies.settings import Settings
from tests.studies.conftest import ONE

ROOT = Path(studies.__file__).parent.parent
INSTALLED = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
SHORT = {"recipe.epochs": 1, "recipe.batch_size": 64, "scale.width": 0.0625}

pytestmark = [
    pytest.mark.xdist_group("postgres"),
    pytest.mark.skipif(not (INSTALLED or shutil.which("initdb")), reason="PostgreSQL's initdb is not installed here"),
    pytest.mark.skipif(not importlib.util.find_spec("psycopg2"), reason="psycopg2 is not installed here"),
]


def script(*arguments):
    line = [ROOT / "examples" / "mlflow_server.sh", *arguments]
    return subprocess.run(
        list(map(str, line)),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=os.environ | {"PYTHON": sys.executable},
    )


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def folder():
    """Where the user postgres may enter: not below pytest's own folder, which is its owner's alone."""
    made = Path(tempfile.mkdtemp(prefix="postgres-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def server(folder):
    started = script("start", folder, free_port())
    assert started.returncode == 0, started.stderr + (folder / "server.log").read_text()
    yield started.stdout.strip()
    assert script("stop", folder).returncode == 0


def in_the_database(folder, query):
    """What PostgreSQL itself says, over its socket."""
    import psycopg2

    with psycopg2.connect(host=str(folder / "socket"), user="mlflow", dbname="mlflow") as connection:
        cursor = connection.cursor()
        cursor.execute(query)
        return cursor.fetchall()


@pytest.mark.slow
def test_a_study_and_its_report_go_through_a_server_on_postgresql(server, folder, tmp_path, one_ray):
    options = {"seeds": (0,), "overrides": SHORT, "resources": ONE, "quiet": True}
    options |= {"runs": tmp_path, "tracking_uri": server}
    record = studies.run("lrn", **options)
    assert {trial.arm for trial in record.trials} == {"A", "A-LRN"}
    assert not (tmp_path / "mlflow.db").exists()
    assert in_the_database(folder, "SELECT count(*) FROM tags WHERE key = 'kind' AND value = 'fit'") == [(2,)]
    assert list((folder / "artifacts").rglob("predictions.npy"))
    report = reports.load("lrn", tracking_uri=server, runs=tmp_path / "elsewhere")
    assert len(report.trials()) == 2
    page = report.write(tmp_path / "report")
    assert "A-LRN" in Path(page).read_text(encoding="utf-8")
    found = list(tracking_checks.check_tracking_store(Settings.from_environment(tmp_path, tracking_uri=server)))
    assert [check.finding for check in found if check.level != "ok"] == []
    version = metadata.version("mlflow")
    assert f"the MLflow server has version {version}, as MLflow {version} expects" in [check.finding for check in found]
    news = []
    studies.run("lrn", **options, say=news.append)
    assert "nothing to train: all 2 trials have ended" in news


def test_the_compose_file_has_no_password_of_its_own_and_publishes_to_this_machine_alone():
    services = yaml.safe_load((ROOT / "examples" / "compose.yaml").read_text())["services"]
    assert services["database"]["environment"]["POSTGRES_PASSWORD"].startswith("${POSTGRES_PASSWORD:?")
    assert "ports" not in services["database"]
    assert services["server"]["ports"] == ["${PUBLISH:-127.0.0.1}:5000:5000"]
    assert "--workers 1" in services["server"]["command"][-1]


def test_what_the_script_needs_and_does_is_said_where_it_is_called_wrong():
    told = script("start")
    assert told.returncode == 2
    assert "ablate run depth --tracking-uri http://127.0.0.1:PORT" in told.stdout
