"""What a worker's server of processes loads once, so that the child it forks for a trial begins at once."""

from __future__ import annotations

import gc

import studies.child
import studies.training  # noqa: F401
from studies.digests import distributions

distributions()
gc.collect()
gc.freeze()  # what is loaded stays: no child's collector looks at it, which would copy its pages
