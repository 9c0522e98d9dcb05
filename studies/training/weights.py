"""Write a trial's final weights, and read those of its dependencies."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from lightning_modules.networks.build import weight_layers
from lightning_modules.networks.initialization import copy_layers
from lightning_modules.specs.errors import DamagedFileError
from lightning_modules.specs.setup import Scratch
from lightning_modules.stored_files import hash_bytes
from studies.design.trial import Trial
from studies.records.result_files import RESULT_REMEDY
from studies.storage.atomic import sync_to_disk
from studies.storage.trial_folder import TrialFolder
from studies.training.outcome import TrialContext

StateDict = Mapping[str, torch.Tensor]


@contextmanager
def writing_weights(network: nn.Module, folder: TrialFolder, *, moves_away: bool = False) -> Iterator[Future[str]]:
    """Write a network's final weights in a thread, and rename the file into place as the block ends.

    Weights that the block changes are written as they were before it. Where it raises, no file is left.

    Args:
        moves_away: whether the block only works on a copy of the network, on another device.

    Yields:
        The file's checksum, once it is written.
    """
    state = network.state_dict()
    # Tensors that nothing changes need no copy before the block begins: 0.2 s of VGG-D at full width.
    content = None if moves_away else _serialize(state)
    with folder.atomic_writer(folder.weights) as partial, ThreadPoolExecutor(max_workers=1) as disk:
        checksum = disk.submit(_write_and_hash, state, content, partial)
        yield checksum
        checksum.result()  # raises what kept it from being written


def _serialize(state: StateDict) -> memoryview:
    # Into memory first: on a full disk torch.save raises a RuntimeError of its zip writer, while a plain write raises
    # the OSError by which a fault of the machine is recognized.
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getbuffer()


def _write_and_hash(state: StateDict, content: memoryview | None, file: Path) -> str:
    content = _serialize(state) if content is None else content
    file.write_bytes(content)
    sync_to_disk(file)  # here, in the thread: for the writer, which does so before it renames, there is little left
    return hash_bytes(content)


def load_final_weights(trial: Trial, folder: Path) -> StateDict:
    """The weights that a trial ended with.

    Raises:
        FileNotFoundError: where it left none.
        DamagedFileError: where they are damaged, or not those that its result names.
    """
    trial_folder = TrialFolder(folder)
    weights = trial_folder.weights
    if not weights.exists():
        raise FileNotFoundError(f"the {trial.arm}, under seed {trial.seed}, left no weights to start from")
    trial_folder.verify_file(weights)
    try:
        state: StateDict = torch.load(weights, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # whatever damaged content makes of torch.load, weights without a checksum included
        reason = f"it is no state dict ({type(error).__name__})"
        raise DamagedFileError(weights, reason, RESULT_REMEDY) from error
    return state


def copy_source_layers(network: nn.Module, context: TrialContext) -> dict[str, str]:
    """Copy the layers of a warm start from its source network.

    Nothing for a start from scratch.

    Returns:
        Evidence: the source trial's fingerprint, and the paths of the copied layers.
    """
    start = context.trial.setup.start
    if isinstance(start, Scratch):
        return {}
    (source,), (source_folder,) = context.trial.dependencies, context.dependency_folders
    copied = copy_layers(network, load_final_weights(source, source_folder), start.layers)
    return {"donor": source.fingerprint, "copied": ",".join(copied)}


def hash_initial_weights(network: nn.Module) -> dict[str, str]:
    """A hash of every layer's weights, by layer path.

    Arms that share a layer must start from the same numbers.
    """
    hashes = {}
    for layer_path, layer in weight_layers(network):
        content = layer.weight.detach().contiguous().numpy().data
        hashes[f"weights.{layer_path}"] = hash_bytes(content)[:12]
    return hashes


def hash_state(state: StateDict) -> str:
    """A hash of all tensors of a network, with their names."""
    digest = hashlib.sha256()
    for name, tensor in state.items():
        digest.update(name.encode())
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()[:12]
