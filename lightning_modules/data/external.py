"""A user's ``LightningDataModule`` as a trial's data.

Its loaders run under seeded random state of their own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, get_args

import pytorch_lightning as lightning
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException

from lightning_modules.data.datamodule import images_per_batch, rescale_images
from lightning_modules.data.trial_data import TrialDataModule
from lightning_modules.distributed import Batch, DataParallelRank
from lightning_modules.networks.class_paths import call_class_path
from lightning_modules.networks.memory_layout import MemoryLayout, make_contiguous
from lightning_modules.rng import RngState, seeded_generator
from lightning_modules.specs.data import ForeignData
from lightning_modules.specs.errors import UserError
from lightning_modules.specs.scale import Scale, fill_arguments
from lightning_modules.user_code.errors import locate_errors
from lightning_modules.user_code.trainer import LoaderName, make_trainer, running_stage

END = object()  # of a loader's batches


class SeededDataModule:
    """A user's data module, built and set up under one seed.

    What it draws then, such as a split, follows the seed. It has a trainer from the start, as under Lightning.

    Args:
        max_epochs: of its trainer.
        prepare: whether to call its ``prepare_data``, which downloads, before: once per study.

    Raises:
        UserError: for a class path that cannot be called, or gives no data module.
    """

    def __init__(
        self,
        data: ForeignData,
        scale: Scale,
        seed: int,
        device: torch.device,
        *,
        max_epochs: int = 1,
        prepare: bool = False,
    ) -> None:
        self.data, self.scale, self.seed, self.device = data, scale, seed, device
        with RngState(seeded_generator(seed, "split")):
            self.module = _make_module(data, scale)
            self.name = type(self.module).__name__
            trainer = make_trainer(max_epochs, device)
            self.module.trainer, trainer.datamodule = trainer, self.module  # type: ignore[attr-defined]
            self.make_loaders = {name: getattr(self.module, f"{name}_dataloader") for name in get_args(LoaderName)}
            if prepare:
                with locate_errors(f"{self.name}.prepare_data"):
                    self.module.prepare_data()
            self._set_up("fit", "train")
            self._set_up("test", "test")

    def _set_up(self, stage: str, loader_name: LoaderName) -> None:
        with locate_errors(f"{self.name}.setup({stage!r})"), running_stage(self.module.trainer, loader_name):
            self.module.setup(stage)

    def tear_down(self) -> None:
        """Call the data module's ``teardown`` for both stages, once nothing reads it any more.

        Raises:
            UserError: where the first call fails.
        """
        vars(self.module).pop("teardown", None)  # see `ExternalDataModule.setup`
        with locate_errors(f"{self.name}.teardown('fit')"), running_stage(self.module.trainer, "train"):
            self.module.teardown("fit")
        # Lightning sets a data module up again between the two. One that releases all that it has at the first call,
        # whatever the stage, may have nothing left for the second: no error of the user's.
        with suppress(Exception), running_stage(self.module.trainer, "test"):
            self.module.teardown("test")

    def batches(self, loader_name: LoaderName, *keys: int | str) -> ExternalBatches:
        """Return one pass over a loader, under the seed and the keys."""
        return ExternalBatches(self, loader_name, RngState(seeded_generator(self.seed, "order", *keys)))


class ExternalBatches:
    """One pass over a user's loader.

    The data module's hooks make a batch of what the loader gives, as under Lightning; then it is checked and hashed.

    Attributes:
        dp_rank: whose share of the images is yielded; every worker reads them all. Labels are those of the whole batch.
        order_hash: of the labels in their order.
        augmentation_hash: of the pixels as the hooks returned them.
        num_examples_seen: examples yielded so far.
    """

    def __init__(self, data_module: SeededDataModule, loader_name: LoaderName, rng_state: RngState) -> None:
        self.data_module, self.loader_name, self.rng_state = data_module, loader_name, rng_state
        self.loader_label = f"{data_module.data.class_path}'s {loader_name}_dataloader"
        with self._user_code():
            self.loader = self._make_loader()
            _reseed_loader(self.loader)
        self.order_hash, self.augmentation_hash, self.num_examples_seen = hashlib.sha256(), hashlib.sha256(), 0
        self.dp_rank = DataParallelRank()
        self.layout: MemoryLayout = "channels-last"

    def __len__(self) -> int:
        return len(self.loader)

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the user's loader, for a module that reads ``trainer.train_dataloader.dataset``."""
        # Not made yet; or the loader's own position, while a fit is resumed at the start of an epoch.
        if name in ("loader", "state_dict", "load_state_dict"):
            raise AttributeError(name)
        return getattr(self.loader, name)

    def __iter__(self) -> Iterator[Batch]:
        with self._user_code():
            batches = iter(self.loader)
        while True:
            with self._user_code():
                loaded = next(batches, END)
            if loaded is END:
                return
            with self._user_code():
                batch = self._apply_hooks(loaded)
            images, labels = self._check_batch(batch)
            self._update_hashes(images, labels)
            if self.layout == "contiguous":
                images = make_contiguous(images)
            yield images[self.dp_rank.local_slice(len(images))], labels

    @contextmanager
    def _user_code(self) -> Iterator[None]:
        """Run a user's code in its random state and stage, and name the place of its errors."""
        # The random state is current only in these blocks, so that neither training nor another loader moves it.
        stage = running_stage(self.data_module.module.trainer, self.loader_name)
        with locate_errors(self.loader_label), self.rng_state, stage:
            yield

    @property
    def digest(self) -> str:
        """Digest of all labels and pixels so far."""
        return hashlib.sha256(self.order_hash.digest() + self.augmentation_hash.digest()).hexdigest()[:16]

    def _update_hashes(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        self.order_hash.update(labels.cpu().numpy().tobytes())
        self.augmentation_hash.update(images.cpu().contiguous().numpy().tobytes())
        self.num_examples_seen += len(labels)

    def _apply_hooks(self, batch: Any) -> Any:
        """Move what the loader gave to the device by the data module's own hooks, which may make the batch right."""
        module = self.data_module.module
        batch = module.on_before_batch_transfer(batch, 0)
        batch = module.transfer_batch_to_device(batch, self.data_module.device, 0)
        return module.on_after_batch_transfer(batch, 0)

    def _make_loader(self) -> Any:
        try:
            loader = self.data_module.make_loaders[self.loader_name]()
        except MisconfigurationException as error:
            raise UserError(f"{self.loader_label} is missing: a study trains, validates and tests.") from error
        needs_length = self.loader_name == "train"  # learning-rate schedules are computed from it
        is_loader = hasattr(loader, "__iter__") and (hasattr(loader, "__len__") or not needs_length)
        if isinstance(loader, (list, tuple, dict)) or not is_loader:
            expected = "one loader with a length" if needs_length else "one loader"
            raise UserError(
                f"{self.loader_label} returned a {type(loader).__name__}; expected {expected}, such as a DataLoader."
            )
        return loader

    def _check_batch(self, batch: Any) -> Batch:
        if not _is_image_label_pair(batch):
            raise UserError(
                f"{self.loader_label} yields {_describe_batch(batch)}; expected (images, labels): float32 (batch, "
                "channels, height, width) and int64 (batch,). The data module's on_after_batch_transfer can make "
                "such a pair of what the loader gives."
            )
        images, labels = batch
        if len(images) != len(labels):
            raise UserError(
                f"{self.loader_label} yields {len(images)} images with {len(labels)} labels; expected one label for "
                "each image."
            )
        scale = self.data_module.scale
        expected = scale.image_shape
        if tuple(images.shape[1:]) != expected:
            raise UserError(
                f"{self.loader_label} gives images of the shape {tuple(images.shape[1:])}, but the protocol's scale "
                f"says {expected}. Resize them there, or give `--set scale.channels=... --set scale.resolution=...`."
            )
        return images.float(), labels.long()


class ExternalSplit:
    """A split of a trial's data, read by one of a user's loaders.

    Attributes:
        digest: of the labels and pixels of the last complete evaluation; empty before.
    """

    def __init__(self, data_module: SeededDataModule, loader_name: LoaderName) -> None:
        self.data_module, self.loader_name = data_module, loader_name
        self.digest = ""

    def evaluation_batches(self) -> Iterator[Batch]:
        """Yield all that the loader gives, with the same random numbers each time."""
        batches = self.data_module.batches(self.loader_name, "evaluation")
        yield from batches
        self.digest = batches.digest

    def rescaled_batches(self, side: int) -> Iterator[Batch]:
        """Yield all that the loader gives, rescaled to a side in pixels.

        Its images have the protocol's resolution.
        """
        for images, labels in self.evaluation_batches():
            size = images_per_batch(side * side)
            for start in range(0, len(labels), size):
                window = slice(start, start + size)
                yield rescale_images(images[window], side), labels[window]


class ExternalDataModule(TrialDataModule):
    """A trial's data from a user's data module."""

    validation: ExternalSplit

    def __init__(
        self,
        data: ForeignData,
        scale: Scale,
        seed: int,
        device: torch.device,
        dp_rank: DataParallelRank | None = None,
        max_epochs: int = 1,
    ) -> None:
        super().__init__()
        self.dp_rank = dp_rank or DataParallelRank()
        self.data_module = SeededDataModule(data, scale, seed, device, max_epochs=max_epochs)
        self.train = ExternalSplit(self.data_module, "train")
        self.validation = ExternalSplit(self.data_module, "val")
        self.test = ExternalSplit(self.data_module, "test")

    @property
    def split_digest(self) -> str:
        """Digest of the validation labels and pixels, once they are read."""
        return self.validation.digest

    def setup(self, stage: str) -> None:
        """Give the user's data module the trainer, and the trainer the user's data module; it is set up already."""
        del stage
        module = self.data_module.module
        if self.trainer is None:
            return
        module.trainer, self.trainer.datamodule = self.trainer, module  # type: ignore[attr-defined]
        # The trainer reads from its data module, and tears it down before the loaders are read for the last time.
        hooks = {"train_dataloader": self.train_dataloader, "val_dataloader": self.val_dataloader}
        vars(module).update(hooks, teardown=_keep_set_up)

    def release(self) -> None:
        """Tear the user's data module down."""
        self.data_module.tear_down()

    def train_dataloader(self) -> ExternalBatches:
        """Return the batches of the trainer's current epoch."""
        epoch = self.trainer.current_epoch if self.trainer else 0
        batches = self.data_module.batches("train", epoch)
        batches.dp_rank, batches.layout = self.dp_rank, self.layout
        sampler: Any = getattr(batches.loader, "sampler", None)
        if hasattr(sampler, "set_epoch"):  # as Lightning would, which does not see this loader
            sampler.set_epoch(epoch)
        return batches


def _keep_set_up(stage: str) -> None:
    del stage


def _make_module(data: ForeignData, scale: Scale) -> lightning.LightningDataModule:
    module = call_class_path(data.class_path, dict(fill_arguments(data.init_args, scale)))
    if not isinstance(module, lightning.LightningDataModule):
        raise UserError(f"{data.class_path} returned a {type(module).__name__}; expected a LightningDataModule.")
    return module


def _reseed_loader(loader: Any) -> None:
    """Seed a loader's private generators from the global one, which is seeded."""
    # A generator that the user made once, at import or in __init__, would otherwise continue from pass to pass.
    seed = int(torch.randint(2**62, ()))
    for owner in (loader, getattr(loader, "sampler", None)):
        generator = getattr(owner, "generator", None)
        if isinstance(generator, torch.Generator):
            generator.manual_seed(seed)


def _is_image_label_pair(batch: Any) -> bool:
    if not (isinstance(batch, (tuple, list)) and len(batch) == 2):
        return False
    images, labels = batch
    if not (isinstance(images, torch.Tensor) and isinstance(labels, torch.Tensor)):
        return False
    return images.dim() == 4 and images.is_floating_point() and labels.dim() == 1 and not labels.is_floating_point()


def _describe_batch(batch: Any) -> str:
    if isinstance(batch, torch.Tensor):
        return f"{str(batch.dtype).removeprefix('torch.')} {tuple(batch.shape)}"
    if isinstance(batch, (tuple, list)):
        return f"({', '.join(map(_describe_batch, batch))})"
    return f"a {type(batch).__name__}"
