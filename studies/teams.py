"""Several workers on one trial: whether its network admits them, and what they synchronise."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lightning_modules.build import hollow
from lightning_modules.custom import trains_itself
from lightning_modules.sharing import NORMS
from lightning_modules.spec import Setup
from lightning_modules.values import InvalidValue


def synchronised(setups: Mapping[str, Setup], workers: Callable[[str], int]) -> list[str]:
    """What the workers of each arm's trials have in common, in a sentence; arms of one worker are left out.

    Raises:
        InvalidValue: where a module trains itself, or a batch is smaller than the number of workers.
    """
    return [_told(arm, setup, workers(arm)) for arm, setup in setups.items() if workers(arm) > 1]


def _told(arm: str, setup: Setup, workers: int) -> str:
    network = hollow(setup.network, setup.scale)
    if trains_itself(network):
        raise InvalidValue(
            f"{type(network).__name__} of {arm} trains itself, and its trials are to have {workers} workers; expected "
            "1: how its losses and metrics add up over workers, only it knows. Give --workers-per-trial 1."
        )
    size = setup.recipe.batch_size
    if size < workers:
        raise InvalidValue(
            f"{arm} has batches of {size}, and its trials are to have {workers} workers; expected {size}."
        )
    norms = sum(isinstance(module, NORMS) for module in network.modules())
    return f"{arm}: {workers} workers per trial, each on {size / workers:g} of the {size} examples of a batch; " + (
        f"its {norms} batch norms take mean and variance over the whole batch" if norms else "it has no batch norm"
    )
