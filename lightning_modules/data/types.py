"""Types shared by all data sources."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lightning_modules.specs.errors import UserError

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
Indices = npt.NDArray[np.int64]


class DataError(UserError):
    """Data that cannot be trained on.

    The text says where, what is expected and what to do.
    """


@dataclass(frozen=True, kw_only=True)
class InMemoryDataset:
    """A data set in memory, every image at the scale's resolution.

    Attributes:
        train_images, test_images: uint8, examples x height x width x channels.
        train_labels, test_labels: int64 class indices.
        class_names: in the order of the class indices.
        origin: where the images came from, in words: ``an image folder (JPEG)``.
        digest: of all pixels and labels.
        excluded_files: bad files, each with what is wrong with it.
        notices: ignored entries and duplicates, a line for each kind.
    """

    train_images: Images
    train_labels: Labels
    test_images: Images
    test_labels: Labels
    class_names: tuple[str, ...]
    origin: str
    digest: str
    excluded_files: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
