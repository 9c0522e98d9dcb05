"""Trained networks as MLflow's models, and the load of the machine as its system metrics."""

import time
from shutil import copytree

import mlflow
import pytest
import torch

from lightning_modules.networks.build import build_network
from studies.settings import Settings
from studies.tracking.interface.system_metrics import monitor_system
from studies.tracking.runs import connect_mlflow

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("one written study")]


@pytest.fixture
def tracking_uri(written, monkeypatch):
    """The store as that of MLflow's own functions.

    By the environment: what `mlflow.set_tracking_uri` sets would stay for all later tests of the process.
    """
    uri = written.store.runs.settings.tracking_uri
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert mlflow.get_tracking_uri() == uri
    return uri


def test_a_network_is_loaded_as_it_was_logged_with_its_metrics_on_their_data(written, small, tracking_uri):
    torch.manual_seed(0)
    network = build_network(small.network, small.scale).eval()
    run = written.trial("B", 2)
    written.store.writer.log_model(run, network, small.scale.image_shape)
    (output,) = written.trial("B", 2).outputs.model_outputs
    loaded = mlflow.pytorch.load_model(f"models:/{output.model_id}")
    images = torch.rand(3, *small.scale.image_shape)
    with torch.no_grad():
        assert torch.equal(loaded(images), network(images))
    model = written.store.runs.client.get_logged_model(output.model_id)
    assert (model.name, model.params["arm"], model.status) == ("B-seed-2", "B", "READY")
    assert mlflow.models.get_model_info(f"models:/{output.model_id}").signature.inputs.inputs[0].shape == (
        -1,
        1,
        32,
        32,
    )
    linked = {metric.key: metric.dataset_name for metric in model.metrics}
    assert linked["test_error"] == "digits/test"
    assert linked["final_train_error"] == "digits/train"
    # A second start logs only what lacks a model.
    runs = written.store.writer.find_runs_without_model(written.run_id)
    assert len(runs) == 19
    assert run.info.run_id not in {other.info.run_id for other in runs}


def test_a_logged_network_is_found_in_a_folder_that_was_moved(written, small, tmp_path):
    network = build_network(small.network, small.scale)
    written.store.writer.log_model(written.trial("D", 2), network, small.scale.image_shape)
    copytree(written.runs, tmp_path / "moved")
    moved = connect_mlflow(Settings.from_environment(tmp_path / "moved"), create=False)
    (output,) = moved.client.get_run(written.trial("D", 2).info.run_id).outputs.model_outputs
    location = moved.client.get_logged_model(output.model_id).artifact_location
    # The original is still there: addresses of a copy lead to the copy.
    assert str(tmp_path / "moved") in location


def test_the_load_of_the_machine_is_logged_to_the_study(written, monkeypatch, tracking_uri):
    pytest.importorskip("psutil")
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    client = written.store.runs.client
    end_time = written.run.info.end_time  # which another test reads
    client.update_run(written.run_id, status="RUNNING")
    with monitor_system(written.run_id, tracking_uri):
        until = time.monotonic() + 60
        while "system/cpu_utilization_percentage" not in written.run.data.metrics and time.monotonic() < until:
            time.sleep(0.2)
    client.set_terminated(written.run_id, end_time=end_time)
    assert 0 <= written.run.data.metrics["system/cpu_utilization_percentage"] <= 100
