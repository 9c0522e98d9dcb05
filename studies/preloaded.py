"""What a server of processes loads once, so that the child it forks for a trial begins at once."""

from __future__ import annotations

import gc
from functools import cache
from importlib import metadata

from studies.collecting import no_garbage_sought

with no_garbage_sought():
    import torch.utils.serialization.config  # noqa: F401
    from lightning_fabric.utilities import registry
    from pytorch_lightning.loops import training_epoch_loop

    import lightning_modules.foreign_data
    import lightning_modules.originals  # noqa: F401
    import studies.child
    import studies.training  # noqa: F401
    from studies.digests import distributions, what_trains

    # Every Lightning trainer asks all distributions for plugins, 15 ms a trial; while a study runs none is added.
    vars(registry)["entry_points"] = cache(metadata.entry_points)
    vars(registry)["entry_points"](group="pytorch_lightning.callbacks_factory")
    # Before every step it asks whether ``training_step`` takes the batch's number.
    of_a_step = vars(training_epoch_loop)
    of_a_step["is_param_in_hook_signature"] = cache(of_a_step["is_param_in_hook_signature"])
    distributions()
    what_trains()

gc.collect()
gc.freeze()  # what is loaded stays: no child's collector looks at it, which would copy its pages
