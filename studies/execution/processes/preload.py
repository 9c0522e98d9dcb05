"""Modules that the fork server loads once, so that no trial waits for imports; two of them are patched."""

from __future__ import annotations

from functools import cache
from importlib import metadata

from studies.gc_pause import pause_gc

# Exempt: a child's garbage collector would write to the headers of these objects, and so copy their pages.
with pause_gc(exempt=True):
    import torch.utils.serialization.config  # noqa: F401
    from lightning_fabric.utilities import registry
    from pytorch_lightning.loops import training_epoch_loop

    import lightning_modules.data.external
    import lightning_modules.data.streaming
    import lightning_modules.profiling.evaluation_cost  # noqa: F401
    import studies.execution.processes.trial_process
    import studies.training.train  # noqa: F401
    from studies.records.digests import package_distributions, training_modules

    # Each Lightning trainer searches all installed distributions for plugins, 15 ms a trial. None is installed while a
    # study runs, so the first answer holds.
    vars(registry)["entry_points"] = cache(metadata.entry_points)
    vars(registry)["entry_points"](group="pytorch_lightning.callbacks_factory")
    # Before each step the loop inspects the signature of ``training_step`` for a ``batch_idx``.
    epoch_loop = vars(training_epoch_loop)
    epoch_loop["is_param_in_hook_signature"] = cache(epoch_loop["is_param_in_hook_signature"])
    # Fill the caches, 0.3 s together: a child needs both to digest the user's code.
    package_distributions()
    training_modules()
