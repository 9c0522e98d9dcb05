"""A trial's data as image files that are decoded at each use, by threads, ahead of the network, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from PIL import Image

from lightning_modules.augment import Crops, Draw, augment
from lightning_modules.batches import Pixels, SplitData, components
from lightning_modules.data import Images, Indices, Labels, fitted, lengths_at
from lightning_modules.pictures import Pictures, decoded
from lightning_modules.sharing import Batch, Share
from lightning_modules.spec import Data, Recipe, Scale

EVALUATION_BATCH = 128
BATCHES_AHEAD = 2  # decoded, or being decoded, while the network is at one
IMAGES_AT_ONCE = 8  # that a thread decodes before it looks for more
OF_EQUAL_SHAPE = 32  # images in a batch, at most, where they keep their shapes
PIXELS_TOGETHER = 2**20  # of such a batch: four images of 512 × 512, whose first maps in VGG take 268 MB

Item = TypeVar("Item")
Made = TypeVar("Made")


class PicturePart:
    """A part of the data as files; see :class:`lightning_modules.batches.Part`, whose batches have the same form.

    As many threads decode as torch computes with: a trial keeps to its share of the machine. What comes out is the same
    for any number of them.
    """

    def __init__(
        self, files: Sequence[Path], labels: Labels, scale: Scale, pixels: Pixels, side: int, device: torch.device
    ) -> None:
        self.files, self.scale, self.pixels, self.side, self.device = files, scale, pixels, side, device
        self.labels = torch.from_numpy(np.array(labels)).to(device)
        self.resolution, self.channels = scale.resolution, scale.channels

    def __len__(self) -> int:
        return len(self.files)

    def evaluation(self) -> Iterator[Batch]:
        """All examples once, in their own order, unaugmented."""
        cuts = np.split(np.arange(len(self)), range(EVALUATION_BATCH, len(self), EVALUATION_BATCH))
        centres = Crops.of_centres(self.side, len(self), self.channels)
        show = self._crop(centres) if self.side else self._fit
        for chosen, images in zip(cuts, self._shown(cuts, show), strict=True):
            yield self._normalised(images), self.labels[chosen[0] : chosen[-1] + 1]

    def augmented(self, cuts: Sequence[Indices], drawn: Draw | Crops) -> Iterator[torch.Tensor]:
        """The images of one batch after the other; see :class:`lightning_modules.batches.Augmented`."""
        if isinstance(drawn, Crops):
            for chosen, images in zip(cuts, self.squares(cuts, drawn), strict=True):
                yield self.pixels.shifted(images.to(self.device), drawn.colours[chosen])
            return
        for chosen, images in zip(cuts, self._shown(cuts, self._fit), strict=True):
            shifts, flips = (torch.from_numpy(each[chosen]) for each in (drawn.shifts, drawn.flips))
            yield self._normalised(augment(images, shifts, flips, drawn.margin))

    def squares(self, cuts: Sequence[Indices], crops: Crops) -> Iterator[torch.Tensor]:
        """Of every cut, the crops of its examples as they are sent to the device: uint8, channels last."""
        return self._shown(cuts, self._crop(crops))

    def rescaled(self, side: int) -> Iterator[Batch]:
        """All examples once, in their own order, each whole, rescaled to a shorter side.

        A batch holds consecutive examples of equal shape.

        Args:
            side: pixels.
        """
        begin, together = 0, list[Images]()
        for image in in_order(range(len(self)), lambda index: self._whole(index, side), 2 * OF_EQUAL_SHAPE):
            most = max(1, min(OF_EQUAL_SHAPE, PIXELS_TOGETHER // (image.shape[0] * image.shape[1])))
            if together and (together[0].shape != image.shape or len(together) == most):
                yield self._batch(together, begin)
                begin, together = begin + len(together), []
            together.append(image)
        if together:
            yield self._batch(together, begin)

    def _batch(self, images: Sequence[Images], begin: int) -> Batch:
        return self._normalised(torch.from_numpy(np.stack(images))), self.labels[begin : begin + len(images)]

    def _whole(self, index: int, side: int) -> Images:
        picture = Image.fromarray(_flat(decoded(self.files[index], self.scale, side)))
        width, height = lengths_at(side, picture.size)
        shown = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
        return shown.reshape(height, width, self.channels)

    def _fit(self, index: int) -> Images:
        pixels = decoded(self.files[index], self.scale, self.resolution)
        return fitted(Image.fromarray(_flat(pixels)), self.scale)

    def _crop(self, crops: Crops) -> Callable[[int], Images]:
        def crop(index: int) -> Images:
            pixels = decoded(self.files[index], self.scale, int(crops.sides[index]))
            return crops.square(pixels, index, self.resolution)

        return crop

    def _shown(self, cuts: Sequence[Indices], show: Callable[[int], Images]) -> Iterator[torch.Tensor]:
        """Of every cut, what is shown of its examples: uint8, examples x height x width x channels."""
        few = [
            chosen[start : start + IMAGES_AT_ONCE] for chosen in cuts for start in range(0, len(chosen), IMAGES_AT_ONCE)
        ]
        ahead = BATCHES_AHEAD * max(map(len, cuts), default=0) // IMAGES_AT_ONCE + 1
        shown = in_order(few, lambda chosen: [show(int(index)) for index in chosen], ahead)
        for chosen in cuts:
            images = np.empty((len(chosen), self.resolution, self.resolution, self.channels), dtype=np.uint8)
            for start in range(0, len(chosen), IMAGES_AT_ONCE):
                for place, image in enumerate(next(shown), start):
                    images[place] = image
            yield torch.from_numpy(images)

    def _normalised(self, images: torch.Tensor) -> torch.Tensor:
        return self.pixels.normalised(images.to(self.device))


def _flat(pixels: Images) -> Images:
    """Without the axis of channels where there is one channel, as Pillow wants it."""
    return pixels[..., 0] if pixels.shape[2] == 1 else pixels


def in_order(items: Iterable[Item], make: Callable[[Item], Made], ahead: int) -> Iterator[Made]:
    """What is made of each item, in their order, by threads that keep up to ``ahead`` ready or under way.

    Raises:
        Exception: what the first item that fails raises; what is under way is waited for, and no more begun.
    """
    waiting = deque[Future[Made]]()
    pool = ThreadPoolExecutor(torch.get_num_threads())
    try:
        for item in items:
            waiting.append(pool.submit(make, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


class PictureData(SplitData):
    """A trial's data as files that are decoded at each use."""

    train: PicturePart
    validation: PicturePart

    def __init__(
        self,
        examples: Pictures,
        data: Data,
        recipe: Recipe,
        scale: Scale,
        seed: int,
        device: torch.device,
        share: Share | None = None,
    ) -> None:
        super().__init__(examples.train_labels, data, recipe, seed, share)
        pixels = Pixels.of(*statistics(examples, self.used, scale), device)
        side = round(recipe.mean_side * scale.resolution)

        def part(files: Sequence[Path], labels: Labels) -> PicturePart:
            return PicturePart(files, labels, scale, pixels, side, device)

        def of_train(indices: Indices) -> PicturePart:
            return part([examples.train_files[index] for index in indices], examples.train_labels[indices])

        self.train, self.validation = of_train(self.used), of_train(self.held)
        self.test = part(examples.test_files, examples.test_labels)


def statistics(examples: Pictures, chosen: Indices, scale: Scale) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean and deviation per channel, and the principal components, of the chosen training images' pixels.

    Each image counts as it is when fitted to the scale's resolution, so that large ones count like small ones; the
    figures are those of the same images in memory.
    """
    total = len(chosen) * scale.resolution**2
    mean, products = (each[chosen].sum(0) / total for each in (examples.sums, examples.products))
    variance = np.maximum(np.diagonal(products) - mean**2, 0)
    return mean, np.sqrt(variance) + 1e-6, components(mean, products)
