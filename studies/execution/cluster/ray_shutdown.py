"""The end of Ray: in order, or by the death of its control process."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from studies.execution.interrupts import waiting_for_ray
from studies.gc_pause import exempt_from_gc, pause_gc
from studies.scratch import process_folder

OUTPUT_DESCRIPTORS = (1, 2)


def shut_down_ray() -> None:
    """Shut Ray down while no thread of this process collects garbage.

    Ray's core ends this process at once, exit code 1, where a reference to a Ray object is freed while it shuts down.
    Tune leaves such references in cycles, which the collector frees in any thread that allocates.
    """
    import ray  # in functions alone: `ray_cluster` sets Ray's variables before it is loaded

    with pause_gc():
        is_any_exempt = gc.get_freeze_count() > 0
        gc.unfreeze()  # what was exempted after the imports may have become garbage since
        gc.collect()
        if is_any_exempt:
            exempt_from_gc()
        with waiting_for_ray():
            ray.shutdown()


def watch_control_process() -> None:
    """Say so if Ray's control process (GCS) dies: Ray's core then ends this process within a minute, in C++."""
    import ray

    node = ray._private.worker._global_node
    processes: list[Any] = node.all_processes.get("gcs_server", []) if node else []

    def watch() -> None:
        exit_code = processes[0].process.wait()
        if exit_code not in (0, -signal.SIGTERM) and ray.is_initialized():
            log = process_folder() / "ray-end.log"
            divert_native_output(log)
            sys.stderr.write(
                f"Ray's control process (GCS) has died (exit code {exit_code}): this start of the study ends within a "
                f"minute. Ended trials are kept; the same command resumes from there. (Ray's own report: {log}, until "
                "the next start.)\n"
            )
            sys.stderr.flush()

    if processes:
        threading.Thread(target=watch, name="watch-gcs", daemon=True).start()


def divert_native_output(log: Path) -> None:
    """Write what libraries print past Python to a file; what Python prints goes where it went before."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    sys.stdout, sys.stderr = (os.fdopen(os.dup(number), "w", buffering=1) for number in OUTPUT_DESCRIPTORS)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for number in OUTPUT_DESCRIPTORS:
        os.dup2(descriptor, number)
    os.close(descriptor)
