"""Run one batch of a setup forward and backward, as a trial would, and keep nothing of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import pytorch_lightning as lightning
import torch

from lightning_modules.data.image_index import ImageFileDataset
from lightning_modules.data.inventory import make_data_module
from lightning_modules.data.trial_data import TrialDataModule
from lightning_modules.data.types import InMemoryDataset
from lightning_modules.distributed import Batch
from lightning_modules.modules.classifier import Classifier
from lightning_modules.modules.own_step import run_own_step
from lightning_modules.modules.trainable import make_trainable
from lightning_modules.networks.memory_layout import MemoryLayout, random_images
from lightning_modules.rng import RngState
from lightning_modules.specs.setup import Setup
from lightning_modules.user_code.errors import locate_errors

# Of a batch: 10 images of 224 pixels. All 256 of ImageNet's recipes would take a large network minutes on a laptop.
MAX_PIXELS = 2**19


@dataclass(frozen=True, kw_only=True)
class BatchTrial:
    """What a batch did to a network.

    Attributes:
        images: their number, in words.
        loss: mean over the images, nats; ``None`` for a module that trains itself, whose loss is its own.
        num_tensors: trained tensors.
        without_gradient: names of those that got no gradient; of a module that trains itself, those that its first step
            left as they were.
        not_finite: names of those whose gradient is NaN or infinite; of a module that trains itself, those with such
            values after its first step.
    """

    images: str
    loss: float | None
    num_tensors: int
    without_gradient: tuple[str, ...]
    not_finite: tuple[str, ...]


def run_batch(setup: Setup, dataset: InMemoryDataset | ImageFileDataset | None, *, has_data: bool) -> BatchTrial:
    """Run the first training batch of seed 0, on the CPU.

    Args:
        dataset: the setup's examples; ``None`` where a user's data module reads its own.
        has_data: whether there are data; otherwise the images are random.

    Raises:
        UserError: where the network, or its own training, fails on the batch, with the place in the user's code.
    """
    max_images = max(2, MAX_PIXELS // setup.scale.resolution**2)  # a batch norm needs two
    setup = replace(setup, recipe=replace(setup.recipe, batch_size=min(setup.recipe.batch_size, max_images)))
    trainable = make_trainable(setup, seed=0)
    with (
        locate_errors(f"{type(trainable.network).__name__}, on a training batch,"),
        RngState(np.random.default_rng(0)),
        _open_data(setup, dataset if has_data else None, trainable.layout, has_data=has_data) as data,
    ):
        if isinstance(trainable, Classifier):
            images, labels = _random_batch(setup) if data is None else next(iter(data.train_dataloader()))
            trial = _run_classifier(trainable, (images[:max_images], labels[:max_images]))
        else:
            trial = _run_own_training(trainable.module, _random_batch(setup) if data is None else data, setup)
    return trial if has_data else replace(trial, images=trial.images.replace("images", "random images"))


@contextmanager
def _open_data(
    setup: Setup, dataset: InMemoryDataset | ImageFileDataset | None, layout: MemoryLayout, *, has_data: bool
) -> Iterator[TrialDataModule | None]:
    if not has_data:
        yield None
        return
    data = make_data_module(setup, dataset, 0, torch.device("cpu"))
    data.layout = layout
    try:
        yield data
    finally:
        data.release()


def _random_batch(setup: Setup) -> Batch:
    images = random_images(setup.recipe.batch_size, setup.scale.image_shape)
    return images, torch.arange(len(images)) % setup.scale.classes


def _run_classifier(classifier: Classifier, batch: Batch) -> BatchTrial:
    images, labels = batch
    classifier.train()
    classifier.accumulate_gradients(images, labels)
    classifier.metrics.count_step(len(labels))
    tensors = {name: tensor for name, tensor in classifier.network.named_parameters() if tensor.requires_grad}
    gradients = {name: tensor.grad for name, tensor in tensors.items() if tensor.grad is not None}
    return BatchTrial(
        images=f"{len(labels)} images",
        loss=classifier.metrics.mean_loss,
        num_tensors=len(tensors),
        without_gradient=tuple(name for name in tensors if name not in gradients),
        not_finite=tuple(name for name, gradient in gradients.items() if not bool(gradient.isfinite().all())),
    )


def _run_own_training(
    module: lightning.LightningModule, data: lightning.LightningDataModule | Batch, setup: Setup
) -> BatchTrial:
    before = {name: tensor.detach().clone() for name, tensor in module.named_parameters() if tensor.requires_grad}
    run_own_step(module, data, max_epochs=setup.recipe.epochs)
    after = dict(module.named_parameters())
    return BatchTrial(
        images=f"{setup.recipe.batch_size} images",
        loss=None,
        num_tensors=len(before),
        without_gradient=tuple(name for name, tensor in before.items() if torch.equal(tensor, after[name])),
        not_finite=tuple(name for name in before if not bool(after[name].isfinite().all())),
    )
