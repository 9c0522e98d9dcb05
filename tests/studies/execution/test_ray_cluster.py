"""A Ray cluster of two nodes on this machine: a study spreads over both, and ends although one is killed."""

import contextlib
import gc
import os
import secrets
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path

import pytest
import yaml

import studies
from studies.cli.app import main
from studies.execution.cluster import ray_cluster
from studies.execution.resources import Resources
from studies.records.digests import code_digest, user_code_digest
from studies.settings import Settings, SettingsError
from studies.tracking.store import open_store
from tests.studies.runner.test_driver import trial_processes

ROOT = Path(studies.__file__).parent.parent
EXAMPLE = ROOT / "examples" / "my_ablation.py"
RAY = Path(sys.executable).with_name("ray")


def descendants(number):
    """A process and all below it."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parents[int(folder.name)] = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
    found = {number}
    while more := {each for each, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def kill(process):
    """End a node as a loss of power does."""
    for number in descendants(process.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
    process.wait()


class Cluster:
    """Two nodes of one CPU each, in processes of their own, behind a token."""

    def __init__(self, folder):
        token = folder / "token"
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(32))
        self.folder, self.nodes = folder, []
        self.environment = os.environ | {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
            "PYTHONPATH": str(ROOT),
        }

    def start(self):
        written = self.folder / "ray" / "ray_current_cluster"
        self._add("--head", "--port=0", "--include-dashboard=false", f"--temp-dir={self.folder / 'ray'}")
        self.address = waited_for(lambda: written.exists() and written.read_text().strip())
        self._add(f"--address={self.address}")

    def _add(self, *arguments):
        line = [RAY, "start", "--block", "--node-ip-address=127.0.0.1", "--num-cpus=1", "--disable-usage-stats"]
        with (self.folder / f"node-{len(self.nodes)}.log").open("w") as log:
            self.nodes.append(
                subprocess.Popen([*line, *arguments], env=self.environment, cwd=self.folder, stdout=log, stderr=log)
            )

    def stop(self):
        for node in reversed(self.nodes):
            kill(node)


@pytest.fixture
def two_nodes():
    """In a folder of short name: Ray makes sockets there."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="two-") as folder:
        nodes = Cluster(Path(folder))
        try:
            nodes.start()
            yield nodes
        finally:
            nodes.stop()


def waited_for(look, seconds=240):
    """What is found once there is something to find."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, "nothing came"
        time.sleep(0.05)
    return found


@pytest.mark.slow
def test_a_study_spreads_over_two_nodes_and_ends_although_one_is_killed_in_mid_run(two_nodes, tmp_path):
    line = [sys.executable, "-W", "ignore", "-m", "studies.cli", "run", str(EXAMPLE), "--seeds", "2"]
    line += ["--set", "recipe.epochs=20", "--ray-address", two_nodes.address, "--runs", str(tmp_path / "runs")]
    head, other = two_nodes.nodes
    looked = [*line[:5], "doctor", "--ray-address", two_nodes.address, "--runs", str(tmp_path / "runs")]
    told = subprocess.run(looked, cwd=tmp_path, env=two_nodes.environment, capture_output=True, text=True, check=False)
    assert told.stdout.count("1 CPUs, 0 GPUs") == 2, told.stdout + told.stderr
    study = subprocess.Popen(
        line, cwd=tmp_path, env=two_nodes.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    waited_for(lambda: study.poll() is not None or all(list(trial_processes(node.pid)) for node in (head, other)))
    assert study.poll() is None, study.communicate()
    waited_for(lambda: len(list((tmp_path / "runs" / "trials").glob("*/attempts.jsonl"))) == 2)
    kill(other)
    told, errors = study.communicate(timeout=400)
    assert study.returncode == 0, told + errors
    record = open_store(Settings.from_environment(tmp_path / "runs")).reader.read_study("my_ablation")
    assert {(trial.arm, trial.seed): trial.state for trial in record.trials} == {
        (arm, seed): "finished" for arm in ("plain", "smoothed") for seed in (0, 1)
    }
    begun = [len(file.read_text().splitlines()) for file in (tmp_path / "runs" / "trials").glob("*/attempts.jsonl")]
    assert sorted(begun) == [1, 1, 1, 2]


@pytest.fixture
def usual_handler():
    """Python's own, which a shell's background job does not have."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_ctrl_c_that_python_drops_as_ray_starts_is_raised_when_it_has_started(usual_handler, monkeypatch):
    def start_and_drop():
        with contextlib.suppress(KeyboardInterrupt):  # as Python does with what a callback raises
            signal.raise_signal(signal.SIGINT)
        return contextlib.nullcontext()

    monkeypatch.setattr(ray_cluster, "_start_local_ray", start_and_drop)
    monkeypatch.setattr(ray_cluster.ray, "is_initialized", lambda: False)
    with pytest.raises(KeyboardInterrupt), ray_cluster.ray_session():
        pass
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("exempt", [True, False])
@pytest.mark.parametrize("enabled", [True, False])
def test_no_garbage_is_left_to_collect_while_ray_shuts_down(enabled, exempt, monkeypatch):
    # A reference to a Ray object that is freed meanwhile ends the process: tried with references in cycles, 3 of 3.
    class Reference:
        pass

    seen = []
    monkeypatch.setattr(ray_cluster.ray, "init", lambda **_: None)
    monkeypatch.setattr(ray_cluster.ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray_cluster.ray, "shutdown", lambda: seen.append((left() is None, gc.isenabled())))
    was_enabled = gc.isenabled()
    try:
        with ray_cluster.ray_session():
            gc.disable()
            reference = Reference()
            reference.itself = reference
            left = weakref.ref(reference)
            if exempt:  # as after the imports of a command
                gc.freeze()
            del reference
            if enabled:
                gc.enable()
        assert seen == [(True, False)]
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if was_enabled else gc.disable)()


@pytest.mark.slow
def test_what_is_sent_to_the_nodes_is_all_that_training_takes_with_the_same_code_digests(tmp_path):
    gathered = tmp_path / "sent"
    ray_cluster.collect_code([str(EXAMPLE.parent)], gathered)
    (users,) = ray_cluster.sent_import_paths([str(EXAMPLE.parent)])
    code = (
        f"import sys; sys.path.insert(0, {str(gathered / users)!r})\n"
        "import studies.training.train, studies.execution.processes.trial_process\n"
        "from studies.records.digests import code_digest, user_code_digest\n"
        "print(studies.training.train.__file__, code_digest(), user_code_digest(['my_networks.Smoothed']))"
    )
    line, there = [sys.executable, "-c", code], os.environ | {"PYTHONPATH": str(gathered)}
    shown = subprocess.run(line, cwd=tmp_path, env=there, capture_output=True, text=True, check=False)
    sys.path.insert(0, str(EXAMPLE.parent))
    try:
        here = user_code_digest(["my_networks.Smoothed"])
    finally:
        sys.path.remove(str(EXAMPLE.parent))
    assert shown.stdout.split() == [str(gathered / "studies/training/train.py"), code_digest(), here], shown.stderr


def test_runs_data_environments_and_large_files_beside_an_ablation_are_not_sent(tmp_path):
    folder = tmp_path / "mine"
    for name in ("my_ablation.py", "nets/deep.py", "runs/mlflow.db", "data/image.png", ".git/config", "env/bin/python"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    (folder / "env" / "pyvenv.cfg").touch()
    (folder / "weights.pt").write_bytes(bytes(ray_cluster.MAX_FILE_BYTES + 1))
    ray_cluster.collect_code([str(folder)], tmp_path / "sent")
    users = tmp_path / "sent" / "users-0"
    assert {str(file.relative_to(users)) for file in users.rglob("*.*")} == {"my_ablation.py", "nets/deep.py"}


def test_an_ablation_among_too_many_files_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(ray_cluster, "MAX_TOTAL_BYTES", 2 * 2**20)
    for number in range(4):
        (tmp_path / f"table-{number}.csv").write_bytes(bytes(2**20))
    with pytest.raises(SettingsError, match=r"come to more than 2 MB .* into a folder of their own"):
        ray_cluster.collect_code([str(tmp_path)], tmp_path.with_name("sent"))


@pytest.fixture
def without_ray(monkeypatch):
    """Ray may run in this process, for other tests' studies: here it does not."""
    monkeypatch.setattr("ray.is_initialized", lambda: False)


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("127.0.0.1:1", r"no Ray cluster answers at 127\.0\.0\.1:1 \(Connection refused\)\. Start one"),
        ("ray://host:10001", "expected host:port"),
        ("host", "the Ray address is 'host'; expected host:port"),
    ],
)
def test_a_cluster_that_is_not_there_is_told_at_once(address, told, monkeypatch, without_ray):
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "1")
    with pytest.raises(SettingsError, match=told), ray_cluster.ray_session(Resources(address=address)):
        pass


def test_a_process_that_has_loaded_ray_for_this_machine_alone_says_so(monkeypatch, without_ray):
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    with (
        pytest.raises(SettingsError, match="Set RAY_ADDRESS before Python starts"),
        ray_cluster.ray_session(Resources(address="a:1")),
    ):
        pass


def test_a_node_that_cannot_write_its_own_folder_or_the_bucket_says_so(tmp_path):
    (tmp_path / "file").touch()
    assert ray_cluster._describe_unwritable([tmp_path / "new"], (tmp_path / "kept").as_uri()) == ""
    assert f"cannot write to {tmp_path}/file/new (Not a directory). Besides" in ray_cluster._describe_unwritable(
        [tmp_path / "file/new"], ""
    )
    assert ray_cluster._describe_unwritable([], "file:///dev/null/x").startswith(
        "reports: the bucket file:///dev/null/x fails: "
    )


def test_the_examples_for_clusters_are_read_by_their_tools():
    launcher = yaml.safe_load((EXAMPLE.parent / "ray_cluster.yaml").read_text())
    assert {"provider", "head_start_ray_commands", "worker_start_ray_commands"} <= set(launcher)
    job = yaml.safe_load((EXAMPLE.parent / "kuberay.yaml").read_text())
    assert main.get_command(None, job["spec"]["entrypoint"].split()[1]) is not None
    subprocess.run(["bash", "-n", EXAMPLE.parent / "slurm.sh"], check=True)
