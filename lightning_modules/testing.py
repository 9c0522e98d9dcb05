"""A trained network, or several, tested in a declared way: crops or whole images, of one size or of several."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from lightning_modules.build import build, hollow
from lightning_modules.custom import trains_itself
from lightning_modules.networks import Custom, Network
from lightning_modules.profile import profile_module
from lightning_modules.sharing import Share
from lightning_modules.spec import ForeignData, Recipe, Scale, Setup, TestMode
from lightning_modules.tally import Tally, outputs
from lightning_modules.values import Misuse

if TYPE_CHECKING:  # Lightning takes two seconds to load, and who only counts what a test costs does not need it
    from lightning_modules.batches import Readable

GRID = 5  # crops along each side of an image (Simonyan & Zisserman 2015, Sect. 4.5)
Place = tuple[int, int]  # of a crop's upper left corner: row, column


def _nothing() -> None:
    return


class Dense(nn.Module):
    """A network over whole images: each fully connected layer as a convolution with the same weights, none copied.

    The first one has the side of the map that it was trained on, the others 1 × 1. It maps images ``(N, channels,
    height, width)``, of the crop's side or more, to scores ``(N, classes)``: the mean of the class score map
    (Simonyan & Zisserman 2015, Sect. 3.2). A network whose head averages the map gives the same as it does by itself.

    Raises:
        Misuse: for a custom network, whose layers are its own.
    """

    def __init__(self, network: nn.Module, spec: Network) -> None:
        super().__init__()
        if isinstance(spec, Custom):
            raise Misuse(
                f"{spec.class_path} cannot be tested densely: which of its layers are fully connected, and what lies "
                "before them, only it knows. Expected test.mode single, multi-crop or ten-crop."
            )
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Scores ``(N, classes)``, float32."""
        return self.score_map(images).float().mean((2, 3))

    def score_map(self, images: torch.Tensor) -> torch.Tensor:
        """Scores at every position, ``(N, classes, rows, columns)``."""
        return self._maps(images, list(self._head))

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Penultimate activations ``(N, features)``, float32, averaged over positions (ibid., Sect. B).

        They are what the last fully connected layer reads; without others before it, the channels of the last map.
        """
        last = max(place for place, layer in enumerate(self._head) if isinstance(layer, nn.Linear))
        return self._maps(images, list(self._head)[:last]).float().mean((2, 3))

    @property
    def _head(self) -> Iterator[nn.Module]:
        return self.network.get_submodule("head").children()

    def _maps(self, images: torch.Tensor, head: Sequence[nn.Module]) -> torch.Tensor:
        maps = images
        for name, part in self.network.named_children():
            if name not in ("flatten", "head"):
                maps = part(maps)
        for layer in head:
            maps = _convolved(layer, maps) if isinstance(layer, nn.Linear) else layer(maps)
        return maps


def _convolved(layer: nn.Linear, maps: torch.Tensor) -> torch.Tensor:
    channels = maps.shape[1]
    side = math.isqrt(layer.in_features // channels)
    return functional.conv2d(maps, layer.weight.view(layer.out_features, channels, side, side), layer.bias)


class Scorer(nn.Module):
    """A trained network as it is tested: its logits in the precision in which it was trained."""

    def __init__(self, network: nn.Module, spec: Network, recipe: Recipe) -> None:
        super().__init__()
        self.network, self.spec = network, spec
        self.is_bfloat16 = recipe.precision == "bfloat16" and not trains_itself(network)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits ``(N, classes)`` of crops, float32."""
        return self._logits(self.network, images)

    def dense(self, images: torch.Tensor) -> torch.Tensor:
        """Scores ``(N, classes)`` of whole images, float32."""
        return self._logits(Dense(self.network, self.spec), images)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Penultimate activations ``(N, features)`` of whole images, float32."""
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.is_bfloat16):
            return Dense(self.network, self.spec).features(images)

    def _logits(self, network: nn.Module, images: torch.Tensor) -> torch.Tensor:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.is_bfloat16):
            return outputs(network(images))[0]


def restored(setup: Setup, state: Mapping[str, torch.Tensor], device: torch.device) -> Scorer:
    """A setup's network with weights that were trained before, in evaluation mode."""
    network = build(setup.network, setup.scale)
    network.load_state_dict(state)
    network = network.to(device).to(memory_format=torch.channels_last)
    return Scorer(network, setup.network, setup.recipe).eval()


@dataclass(frozen=True, kw_only=True)
class Looking:
    """What a test looks at of every image, in pixels.

    Attributes:
        sides: shorter sides to which each image is rescaled.
        mirrored: whether crops and whole images are looked at mirrored as well; a single crop never is.
        crop: side of a crop.
    """

    mode: TestMode
    sides: tuple[int, ...]
    mirrored: bool
    crop: int

    @classmethod
    def of(cls, setup: Setup) -> Looking:
        """That of a setup."""
        test, crop = setup.test, setup.scale.resolution
        trained = not isinstance(setup.data, ForeignData) and "flip" in setup.recipe.augmentation
        return cls(
            mode=test.mode,
            sides=tuple(round(side * crop) for side in test.sides or (own_side(setup),)),
            mirrored=test.mirroring == "always" or (test.mirroring == "as-trained" and trained),
            crop=crop,
        )

    def posteriors(self, scorer: Scorer, images: torch.Tensor) -> torch.Tensor:
        """Class posteriors ``(N, classes)`` of images ``(N, channels, height, width)`` of one size."""
        return torch.stack([self._of_mode(scorer, images, mode) for mode in self.modes]).mean(0)

    def _of_mode(self, scorer: Scorer, images: torch.Tensor, mode: TestMode) -> torch.Tensor:
        score = scorer.dense if mode == "dense" else scorer
        views = [score(view).softmax(1) for view in self.views(images, mode)]
        return torch.stack(views).mean(0)

    @property
    def modes(self) -> tuple[TestMode, ...]:
        """The modes whose posteriors are averaged."""
        return ("dense", "multi-crop") if self.mode == "both" else (self.mode,)

    def views(self, images: torch.Tensor, mode: TestMode) -> Iterator[torch.Tensor]:
        """What a mode looks at of images: the whole, or crop after crop; mirrored ones after the others."""
        for flipped in (False, True) if self.mirrored and mode != "single" else (False,):
            seen = images.flip(3) if flipped else images
            if mode == "dense":
                yield seen
                continue
            for top, left in places(mode, images.shape[2], images.shape[3], self.crop):
                yield seen[:, :, top : top + self.crop, left : left + self.crop]


def own_side(setup: Setup) -> float:
    """The shorter side at which a setup's images are tested while it trains, in units of the crop's."""
    return 1.0 if isinstance(setup.data, ForeignData) else setup.recipe.mean_side or 1.0


def places(mode: TestMode, height: int, width: int, crop: int) -> tuple[Place, ...]:
    """Where a mode's crops lie in an image, row by row."""
    down, across = height - crop, width - crop
    centre = (down // 2, across // 2)
    if mode == "single":
        return (centre,)
    if mode == "ten-crop":
        return (*product((0, down), (0, across)), centre)
    rows, columns = ([round(step * free / (GRID - 1)) for step in range(GRID)] for free in (down, across))
    return tuple(product(rows, columns))


@torch.no_grad()
def examine(
    scorers: Sequence[Scorer],
    looking: Looking,
    part: Readable,
    device: torch.device,
    share: Share | None = None,
    beat: Callable[[], None] = _nothing,
) -> tuple[Tally, torch.Tensor]:
    """Tally and predicted classes ``(examples,)`` of a part; posteriors averaged over views, then members, then sides.

    Workers take their parts of every batch; each gets what all of them found. The loss is the mean negative logarithm
    of the averaged posterior, nats.

    Args:
        scorers: the networks whose posteriors are averaged, in evaluation mode.
        beat: called at every batch: a sign of life.
    """
    share = share or Share()
    by_side, labels = [], torch.empty(0)
    for side in looking.sides:
        found = []
        for images, of_batch in part.rescaled(side):
            beat()
            found.append((_of_batch(scorers, looking, images, share), of_batch))
        by_side.append(torch.cat([posteriors for posteriors, _ in found]))
        labels = torch.cat([of_batch for _, of_batch in found])
    posteriors = torch.stack(by_side).mean(0)
    share.add_up(posteriors)
    tally = Tally(device)
    logarithms = posteriors.clamp_min(torch.finfo(posteriors.dtype).tiny).log()
    tally.add(functional.nll_loss(logarithms, labels), posteriors, labels)
    tally.add_top5(posteriors, labels)
    return tally, posteriors.argmax(1)


def _of_batch(scorers: Sequence[Scorer], looking: Looking, images: torch.Tensor, share: Share) -> torch.Tensor:
    """Posteriors of a batch ``(N, classes)``; zeros where they are another worker's."""
    mine = share.part(len(images))
    seen = images[mine] if mine.start < mine.stop else images[:1]
    mean = torch.stack([looking.posteriors(scorer, seen) for scorer in scorers]).mean(0)
    posteriors = mean.new_zeros(len(images), mean.shape[1])
    posteriors[mine] = mean[: mine.stop - mine.start]
    return posteriors


def multiply_adds(setup: Setup) -> int:
    """Of the whole test of one image, square before it is rescaled: all sides, views and members.

    Raises:
        Misuse: where a network cannot be tested so.
    """
    looking = Looking.of(setup)
    networks = (setup.network, *setup.test.members)
    return sum(_of_network(network, setup.scale, looking) for network in networks)


def _of_network(network: Network, scale: Scale, looking: Looking) -> int:
    module = hollow(network, scale)
    total = 0
    for mode, side in product(looking.modes, looking.sides):
        of_view = side if mode == "dense" else looking.crop
        views = 1 if mode == "dense" else len(places(mode, side, side, looking.crop))
        flips = 2 if looking.mirrored and mode != "single" else 1
        part = Dense(module, network) if mode == "dense" else module
        total += flips * views * profile_module(part, (scale.channels, of_view, of_view)).multiply_adds
    return total
