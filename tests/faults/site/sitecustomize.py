"""Processes that a round of faults starts fork their trials from the suite's own server, which has torch loaded.

The processes and what they do are the same; only the seconds in which each server would load torch are saved.
"""

import os
from multiprocessing import forkserver, resource_tracker


def _lent(self: forkserver.ForkServer) -> None:
    resource_tracker.ensure_running()
    if self._forkserver_address is None:
        self._forkserver_address = os.environ["FAULTS_SERVER"]
        self._forkserver_alive_fd = os.open(os.devnull, os.O_RDONLY)


if "FAULTS_SERVER" in os.environ:
    forkserver.ForkServer.ensure_running = _lent
