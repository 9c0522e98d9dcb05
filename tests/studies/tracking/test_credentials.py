"""A tracking server that asks for a password: MLflow's own variables are used, and a refusal says what to set."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import mlflow
import pytest

from studies.settings import Settings
from studies.tracking.errors import TrackingError
from studies.tracking.store import open_store

EXPECTED = "Basic " + base64.b64encode(b"ann:sesame").decode()


class ServerWithPassword(BaseHTTPRequestHandler):
    """Answers as MLflow's server with basic authentication does."""

    def _answer(self) -> None:
        is_known = self.headers.get("Authorization") in (EXPECTED, "Bearer token-1")
        text = "You are not authenticated."
        if is_known:
            text = mlflow.__version__ if self.path.startswith("/version") else json.dumps({"experiments": []})
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(200 if is_known else 401)
        self.end_headers()
        self.wfile.write(text.encode())

    do_GET = do_POST = _answer  # noqa: N815  (the names of http.server)

    def log_message(self, *arguments: object) -> None:
        """Print nothing."""


@pytest.fixture
def server(monkeypatch) -> Iterator[str]:
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    http = HTTPServer(("127.0.0.1", 0), ServerWithPassword)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{http.server_port}"
    http.shutdown()
    http.server_close()


def test_a_server_that_asks_for_a_password_is_not_taken_for_one_that_is_down(server, tmp_path):
    with pytest.raises(TrackingError, match="asks for credentials: set MLFLOW_TRACKING_USERNAME and"):
        open_store(Settings.from_environment(tmp_path, tracking_uri=server))


def test_a_wrong_password_is_told(server, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ann")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong")
    refusal = "refuses the credentials in MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
    with pytest.raises(TrackingError, match=refusal):
        open_store(Settings.from_environment(tmp_path, tracking_uri=server))


@pytest.mark.parametrize(
    "variables",
    [
        {"MLFLOW_TRACKING_USERNAME": "ann", "MLFLOW_TRACKING_PASSWORD": "sesame"},
        {"MLFLOW_TRACKING_TOKEN": "token-1"},
    ],
)
def test_the_version_of_a_server_is_asked_with_credentials(server, tmp_path, monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    store = open_store(Settings.from_environment(tmp_path, tracking_uri=server))
    assert store.inspector.schema_versions() == (mlflow.__version__, mlflow.__version__)
