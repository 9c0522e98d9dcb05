"""Choose how many trials one process trains at once: measured once for a network, and kept."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lightning_modules.specs.data import ForeignData
from lightning_modules.specs.networks import Custom
from lightning_modules.specs.serialization import to_json
from lightning_modules.specs.setup import Setup
from studies.execution.jobs import TrialJob
from studies.execution.processes.best_size import BestSize
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
    if resources.address:
        return min(DEFAULT_SIZE, largest)
    best = _cached_size(_costliest_setup(setups), nodes[0].device_models.get("cuda", ""), cache_folder)
    if not best.size:
        size = min(DEFAULT_SIZE, largest)
        log(f"{size} seeds of an arm are trained at once, as the best number is not known: {best.description}")
        return size
    num_seeds = max(Counter(job.trial.arm for job in jobs).values())
    size = best.size
    if num_seeds == size + 1 and 1 < size < best.most:
        size = num_seeds  # else the last seed would train alone, for about as long as all the others together
    size = min(size, largest)
    if best.description:
        log(f"{size} seeds of an arm are trained at once on a GPU: {best.description}")
    return size


def _costliest_setup(setups: Sequence[Setup]) -> Setup:
    """The setup whose step computes most: by the examples that it has in memory at once, and their precision."""
    from lightning_modules.profiling.profile import profile_spec

    def step_cost(setup: Setup) -> float:
        recipe = setup.recipe
        num_examples = recipe.microbatch or recipe.batch_size
        num_bytes = 4 if recipe.precision == "float32" else 2
        return profile_spec(setup.network, setup.scale).multiply_adds * num_examples * num_bytes

    return max(setups, key=step_cost)


def _cached_size(setup: Setup, gpu: str, cache_folder: Path) -> BestSize:
    """The best size as measured before, without a description, or else as measured now."""
    recipe = setup.recipe
    step = [recipe.batch_size, recipe.microbatch, recipe.precision, recipe.clip_norm, recipe.augmentation]
    key = json.dumps([gpu, version("torch"), to_json(setup.network), to_json(setup.scale), step])
    cache_file = cache_folder / CACHE_FILE
    sizes: dict[str, list[int]] = {}
    if cache_file.exists():
        try:
            sizes = json.loads(cache_file.read_text())
            size, most = sizes[key]
            if 1 <= size <= most:
                return BestSize(size, most, "")
        except (ValueError, KeyError, TypeError):  # damaged, or of another network
            sizes = sizes if isinstance(sizes, dict) else {}
    best = _measure_in_child(setup)
    if best.size:
        with AtomicWriter(cache_file) as partial:
            partial.write_text(json.dumps({**sizes, key: [best.size, best.most]}, indent=1))
    return best


def _measure_in_child(setup: Setup) -> BestSize:
    """Measure in a process of its own, as the driver must not hold a GPU."""
    from studies.execution.processes.bundle_timing import send_best_size

    try:
        return BestSize(*_ask_child(send_best_size, setup, "cuda"))
    except ForkError as error:
        return BestSize(0, 0, str(error))


def measure_step_seconds(setup: Setup, device_name: str) -> float:
    """Seconds of a training step, timed in a process of its own; not-a-number where that fails."""
    from studies.execution.processes.bundle_timing import send_step_seconds

    try:
        seconds, _ = _ask_child(send_step_seconds, setup, device_name)
    except ForkError:
        return math.nan
    return float(seconds) or math.nan


def _ask_child(function: Callable[..., None], setup: Setup, device_name: str) -> tuple[Any, ...]:
    """The answer of a function that measures in a child process.

    Raises:
        ForkError: where it gives none.
    """
    forks = ForkClient(server_address())
    try:
        child = forks.fork(function, setup, device_name)
        if not child.connection.poll(MEASUREMENT_TIMEOUT_SECONDS):
            child.kill()
            raise ForkError(f"no answer within {MEASUREMENT_TIMEOUT_SECONDS:g} s")
        answer: tuple[Any, ...] = child.connection.recv()
        child.join()
    except (EOFError, OSError) as error:
        raise ForkError(f"{error or 'the process ended without an answer'}") from error
    finally:
        forks.close()
    return answer
