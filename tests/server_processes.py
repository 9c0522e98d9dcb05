"""Processes for tests that are forked by a server of one thread.

A test process has threads (xdist's, OpenMP's): a fork of it copies their locks as they are, perhaps held for ever.
"""

import multiprocessing
import os
import sys
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from unittest import mock

# The server is one per test process: it imports once what the processes of all of these tests need.
PRELOADED = ["tests.studies.storage.test_shared_folders", "tests.studies.storage.test_dataset_download"]


def start_server() -> ForkServerContext:
    """Start the server, unless it runs, and return the context whose processes it forks."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    # Python 3.11 and 3.12 do not hand sys.path to the server.
    with mock.patch.dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)):
        forkserver.ensure_running()
    return context
