"""Ray on its way while a study is planned: there when it is needed, gone afterwards, and never started in vain."""

import os
import signal
import subprocess
import sys

import pytest

from studies.design.declare import declare
from studies.execution.cluster.prestart import prestart_ray, wait_for_ray
from studies.execution.processes import fork_server
from studies.execution.resources import Resources
from studies.settings import Settings

SCRIPT = """
import sys, threading
from studies.execution.processes import fork_server as forks
from studies.execution.cluster.prestart import prestart_ray, wait_for_ray
from studies.design.declare import declare
from studies.execution.resources import Resources
from studies.settings import Settings

forks.ForkServer.__init__.__defaults__ = ("json",)  # to load; it forks nothing here
study, settings = declare("lrn"), Settings.from_environment(sys.argv[1])
for _ in range(2):
    with prestart_ray(study, settings, Resources()):
        wait_for_ray()
        import ray
        print(ray.is_initialized(), ray.get(ray.remote(lambda: 4).remote()), end=" ")
    print(ray.is_initialized(), end=" ")
try:
    with prestart_ray(study, settings, Resources()):
        raise KeyboardInterrupt
except KeyboardInterrupt:
    print(ray.is_initialized(), threading.active_count() == 1)
"""


def lines_of(script, runs, **environment):
    line = [sys.executable, "-W", "ignore", "-c", script, str(runs)]
    return subprocess.run(line, env=os.environ | environment, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.slow
def test_ray_is_there_when_it_is_waited_for_and_gone_afterwards_also_after_a_ctrl_c(tmp_path):
    shown = lines_of(SCRIPT, tmp_path)
    assert shown.stdout.split() == ["True", "4", "False"] * 2 + ["False", "True"], shown.stderr


def test_what_keeps_ray_from_starting_is_raised_to_who_waits_for_it(tmp_path):
    no_folder = "from pathlib import Path; from studies import scratch; "
    no_folder += "scratch._make_folder = lambda: Path('/proc/no-such-folder')\n"
    # The server of processes needs a folder as well, and is not what this is about.
    no_server = "import studies.execution.cluster.prestart as prestart; from contextlib import nullcontext; "
    no_server += "prestart.prestart_fork_server = nullcontext\n"
    shown = lines_of(no_folder + no_server + SCRIPT, tmp_path)
    assert shown.returncode == 1
    assert "no-such-folder" in shown.stderr.splitlines()[-1]


@pytest.mark.parametrize("what", ["a cluster", "nothing new"])
def test_neither_ray_nor_a_server_of_processes_is_started_for(tmp_path, monkeypatch, what):
    study, settings = declare("lrn"), Settings.from_environment(tmp_path)
    monkeypatch.setattr("studies.execution.cluster.prestart.threading.Thread", None)  # whoever starts one fails
    monkeypatch.setattr(fork_server, "_server_addresses", [])
    resources = Resources(address="there:1") if what == "a cluster" else Resources()
    for fit in study.trials() if what == "nothing new" else ():
        (settings.trials_folder / f"{fit.fingerprint}-0-0-0").mkdir(parents=True)
    with prestart_ray(study, settings, resources):
        wait_for_ray()
        assert not fork_server.server_address()


class Dropping:
    """What is interrupted as it is removed: Python drops what is raised there."""

    def __del__(self):
        signal.raise_signal(signal.SIGINT)


def test_a_ctrl_c_that_python_drops_is_raised_to_who_waits_and_only_once(tmp_path):
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        cluster = Resources(address="there:1")
        with prestart_ray(declare("lrn"), Settings.from_environment(tmp_path), cluster):
            thing = Dropping()
            del thing
            with pytest.raises(KeyboardInterrupt):
                wait_for_ray()
        with prestart_ray(declare("lrn"), Settings.from_environment(tmp_path), cluster):
            wait_for_ray()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, usual)
