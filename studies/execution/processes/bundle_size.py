"""Choose how many trials one process trains at once: measured once for a network, and kept."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from lightning_modules.specs.data import ForeignData
from lightning_modules.specs.networks import Custom
from lightning_modules.specs.serialization import to_json
from lightning_modules.specs.setup import Setup
from studies.execution.jobs import TrialJob
from studies.execution.processes.fork_server import ForkClient, ForkError, server_address
from studies.execution.resources import Node, Resources
from studies.storage.atomic import AtomicWriter

DEFAULT_SIZE = 4  # where no GPU can be measured: best for VGG-D and near the best for ResNets on an H200
MEASUREMENT_TIMEOUT_SECONDS = 300.0
CACHE_FILE = "bundle_sizes.json"


def can_join_bundle(setup: Setup) -> bool:
    """Whether a trial can share its process: nothing in it draws from generators that all threads share.

    That is certain of this package's networks, recipes and data, and not of a user's. Compiled networks train alone:
    ``torch.compile`` keeps what it has compiled by process, and one thread's compilation would stop the others.
    """
    trains_network = setup.has_training and setup.recipe.trains == "network" and not setup.recipe.compiled
    is_foreign = isinstance(setup.network, Custom) or isinstance(setup.data, ForeignData)
    return trains_network and not is_foreign


def find_bundle_size(
    jobs: Sequence[TrialJob],
    resources: Resources,
    nodes: Sequence[Node],
    cache_folder: Path,
    log: Callable[[str], None],
) -> int:
    """Return how many trials of these jobs one process is to train at once.

    Args:
        jobs: those that are about to run.
        nodes: the machines that train.
        cache_folder: keeps what was measured.
    """
    if resources.bundle_size != "auto":
        return int(resources.bundle_size)
    setups = [job.trial.setup for job in jobs if can_join_bundle(job.trial.setup)]
    shares_no_gpu = all(request.gpus_per_trial == 1 for request in resources.requests)
    if not setups or not shares_no_gpu:
        return 1
    num_gpus = max(1, int(sum(node.gpus for node in nodes)))
    largest = math.ceil(len(jobs) / num_gpus)  # a larger bundle would leave a GPU idle
    largest = min(largest, resources.max_concurrent or largest)
    if largest == 1:
        return 1
    size = DEFAULT_SIZE
    if not resources.address:
        from lightning_modules.profiling.profile import profile_spec

        costliest = max(setups, key=lambda setup: profile_spec(setup.network, setup.scale).multiply_adds)
        size = _cached_size(costliest, nodes[0].device_models.get("cuda", ""), cache_folder, log)
    return min(size, largest)


def _cached_size(setup: Setup, gpu: str, cache_folder: Path, log: Callable[[str], None]) -> int:
    key = json.dumps(
        [gpu, to_json(setup.network), to_json(setup.scale), setup.recipe.batch_size, setup.recipe.precision]
    )
    cache_file = cache_folder / CACHE_FILE
    sizes: dict[str, int] = {}
    if cache_file.exists():
        try:
            sizes = json.loads(cache_file.read_text())
            if sizes[key] >= 1:
                return sizes[key]
        except (ValueError, KeyError, TypeError):  # damaged, or of another network
            sizes = sizes if isinstance(sizes, dict) else {}
    size, description = _measure_in_child(setup)
    if not size:
        log(f"{DEFAULT_SIZE} seeds of an arm are trained at once, as the best number is not known: {description}")
        return DEFAULT_SIZE
    log(f"{size} seeds of an arm are trained at once on a GPU: {description}")
    with AtomicWriter(cache_file) as partial:
        partial.write_text(json.dumps({**sizes, key: size}, indent=1))
    return size


def _measure_in_child(setup: Setup) -> tuple[int, str]:
    """Measure in a process of its own, as the driver must not hold a GPU; 0 and the reason where that fails."""
    from studies.execution.processes.bundle_timing import send_best_size

    size, description = _ask_child(send_best_size, setup, "cuda")
    return int(size), description


def measure_step_seconds(setup: Setup, device_name: str) -> float:
    """Seconds of a training step, timed in a process of its own; not-a-number where that fails."""
    from studies.execution.processes.bundle_timing import send_step_seconds

    seconds, _ = _ask_child(send_step_seconds, setup, device_name)
    return seconds or math.nan


def _ask_child(function: Callable[..., None], setup: Setup, device_name: str) -> tuple[float, str]:
    """The answer of a function that measures in a child process; 0 and the reason where it fails."""
    forks = ForkClient(server_address())
    try:
        child = forks.fork(function, setup, device_name)
        if not child.connection.poll(MEASUREMENT_TIMEOUT_SECONDS):
            child.kill()
            return 0, f"no answer within {MEASUREMENT_TIMEOUT_SECONDS:g} s"
        answer: tuple[float, str] = child.connection.recv()
        child.join()
    except (ForkError, EOFError, OSError) as error:
        return 0, f"{error or 'the process ended without an answer'}"
    finally:
        forks.close()
    return answer
