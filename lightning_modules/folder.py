"""An image folder to be tested on: files of any size, decoded as they are needed, rescaled and never cropped."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from lightning_modules.batches import EVALUATION_BATCH, images_per_batch, mean_and_deviation, rescale
from lightning_modules.data import (
    DataError,
    Images,
    class_names,
    decoded,
    eight_bits,
    images_in,
)
from lightning_modules.sharing import Batch
from lightning_modules.spec import Scale

PARTS = ("test", "val")


class FolderPart:
    """The images of ``<folder>/test/<class>/`` or, where there is none, ``<folder>/val/<class>/``.

    Attributes:
        classes: names, in the order of the indices.

    Raises:
        DataError: for a folder without such images.
    """

    def __init__(self, folder: Path, scale: Scale, device: torch.device) -> None:
        place = next((folder / name for name in PARTS if (folder / name).is_dir()), None)
        if place is None:
            raise DataError(f"{folder} has neither test/<class>/ nor val/<class>/; expected one of them, with images.")
        self.folder, self.scale, self.device = folder, scale, device
        self.classes = class_names(place)
        self.files = [(file, label) for label, name in enumerate(self.classes) for file in images_in(place / name)]
        self.mean, self.deviation = torch.zeros(1), torch.ones(1)

    def normalise_by(self, mean: Sequence[float], deviation: Sequence[float]) -> None:
        """Set what is subtracted from pixels from 0 to 255, and divided by, per channel."""
        self.mean, self.deviation = (
            torch.tensor(each, dtype=torch.float32).view(-1, 1, 1) for each in (mean, deviation)
        )

    def statistics(self) -> tuple[list[float], list[float]]:
        """Mean and deviation per channel of all images in ``<folder>/train/<class>/``, as they are trained on.

        Raises:
            DataError: where there are none.
        """
        train = self.folder / "train"
        files = [file for name in class_names(train) for file in images_in(train / name)]
        counts = np.zeros((self.scale.channels, 256), dtype=np.int64)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for image in pool.map(lambda file: decoded(file, self.scale), files):
                for channel in range(self.scale.channels):
                    counts[channel] += np.bincount(image[..., channel].ravel(), minlength=256)
        mean, deviation = mean_and_deviation(counts)
        return mean.tolist(), deviation.tolist()

    def evaluation(self) -> Iterator[Batch]:
        """The centre crops of all images, at the crop's own side."""
        crop = self.scale.resolution
        for images, labels in self.rescaled(crop):
            top, left = ((length - crop) // 2 for length in images.shape[2:])
            yield images[:, :, top : top + crop, left : left + crop], labels

    def rescaled(self, side: int) -> Iterator[Batch]:
        """All images, class by class, rescaled to a shorter side in pixels; a batch holds images of one shape."""
        waiting: list[tuple[torch.Tensor, int]] = []
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for start in range(0, len(self.files), EVALUATION_BATCH):
                block = self.files[start : start + EVALUATION_BATCH]
                images = pool.map(lambda entry: self._image(entry[0], side), block)
                for image, (_, label) in zip(images, block, strict=True):
                    if waiting and _is_full(waiting, image):
                        yield self._batch(waiting)
                        waiting = []
                    waiting.append((image, label))
        if waiting:
            yield self._batch(waiting)

    def _image(self, file: Path, side: int) -> torch.Tensor:
        pixels = torch.from_numpy(np.array(_whole(file, self.scale))).permute(2, 0, 1).float()
        return rescale((pixels.sub_(self.mean) / self.deviation)[None], side)[0]

    def _batch(self, waiting: Sequence[tuple[torch.Tensor, int]]) -> Batch:
        images = torch.stack([image for image, _ in waiting]).to(self.device)
        labels = torch.tensor([label for _, label in waiting], device=self.device)
        return images.contiguous(memory_format=torch.channels_last), labels


def _is_full(waiting: Sequence[tuple[torch.Tensor, int]], image: torch.Tensor) -> bool:
    return waiting[0][0].shape != image.shape or len(waiting) >= images_per_batch(image[0].numel())


def _whole(file: Path, scale: Scale) -> Images:
    """An image as it is: height x width x channels."""
    try:
        with Image.open(file) as image:
            shown = eight_bits(ImageOps.exif_transpose(image)).convert("L" if scale.channels == 1 else "RGB")
            return np.asarray(shown).reshape(shown.height, shown.width, scale.channels)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"cannot read the image {file}: {error}. Mend or remove it.") from error
