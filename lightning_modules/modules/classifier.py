"""The LightningModule: cross-entropy and SGD under a recipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import pytorch_lightning as lightning
import torch
from torch import nn
from torch.nn import functional

from lightning_modules.distributed import Batch, DataParallelRank, synchronize_layers
from lightning_modules.modules.captured_steps import CapturedSteps, CaptureError, StepState
from lightning_modules.modules.compilation import compile_network
from lightning_modules.modules.gradient_norms import GradientNorms
from lightning_modules.modules.lr_schedule import Plateau, learning_rate_factor
from lightning_modules.modules.metrics import RunningMetrics
from lightning_modules.modules.step_rates import DeviceRates, HostRates, StepRates, allocate_momentum, make_sgd
from lightning_modules.networks.layers import Dropout
from lightning_modules.networks.memory_layout import MemoryLayout, set_layout
from lightning_modules.networks.outputs import extract_logits
from lightning_modules.specs.recipe import Recipe


class DeviceEpoch(Protocol):
    """An epoch of training batches that are cut on the device, at a place that the device keeps."""

    @property
    def batch_sizes(self) -> Sequence[int]:
        """Sizes of the global batches, in their order."""

    def load_draws(self) -> None:
        """Send the epoch's order and augmentation to the device, and begin at its start."""

    def cut_batch(self, size: int) -> Batch:
        """Cut the next batch, without reading a value on the host."""

    @property
    def state_tensors(self) -> list[torch.Tensor]:
        """What cutting a batch changes."""


class TrainingEpoch(Protocol):
    """A whole epoch, which Lightning hands to the module as if it were one batch."""

    @property
    def device_epoch(self) -> DeviceEpoch | None:
        """The same batches, cut on the device; ``None`` where the host makes them."""

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches."""


def do_nothing() -> None:
    """Ignore a step."""


def _name_tensors(name: str, tensors: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"{name} {number}": tensor for number, tensor in enumerate(tensors, 1)}


class Classifier(lightning.LightningModule):
    """Train a network under a recipe.

    It is a :class:`lightning_modules.modules.trainable.Trainable`. Lightning's loop runs over epochs, and this module
    over the steps of each: what Lightning does for a batch takes a small network as long as a tenth of its step, and
    would keep a GPU waiting.

    On a GPU the whole step is captured as a CUDA graph, if it can be
    (:mod:`lightning_modules.modules.captured_steps`); a CPU computes the same function, called by the host.

    With several workers, every step has the loss and the gradient of the global batch, and so has every curve.

    Attributes:
        auxiliary_weight: factor of the auxiliary heads' losses; at 0, further outputs are ignored.
        layout: of the batches; a network of the other layout copies them itself.
        has_device_steps: whether steps depend on nothing of the host: batches are cut, and rates are found, on the
            device. So it is on a GPU.
        on_step: called after every step.
        why_not_captured: the reason, where steps of a GPU could not be captured.
    """

    has_device_steps = False

    def __init__(
        self,
        network: nn.Module,
        recipe: Recipe,
        auxiliary_weight: float = 0.0,
        dp_rank: DataParallelRank | None = None,
        layout: MemoryLayout = "channels-last",
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.recipe, self.auxiliary_weight, self.dp_rank = recipe, auxiliary_weight, dp_rank or DataParallelRank()
        self.layout: MemoryLayout = "channels-last"
        self.dropout_generator: torch.Generator | None = None
        # Before several workers' layers take their places: those draw through the original ones.
        self.dropout_layers = [layer for layer in network.modules() if isinstance(layer, Dropout)]
        self.network = set_layout(synchronize_layers(network, self.dp_rank), layout)
        # A function and no module, which would be registered, and so stored, a second time.
        self.compute_outputs: Callable[[torch.Tensor], Any] = self.network.__call__
        if recipe.compiled:
            self.compute_outputs = compile_network(self.network)
        self.all_parameters = list(self.network.parameters())  # collecting them takes 1 % of a small network's step
        self.metrics = RunningMetrics(torch.device("cpu"))
        self.gradient_norms = GradientNorms(self.network, torch.device("cpu"))
        self.plateau = Plateau(recipe.patience)
        self.on_step: Callable[[], None] = do_nothing
        self.captured_steps: CapturedSteps | None = None
        self.why_not_captured = ""
        self.device_epoch: DeviceEpoch | None = None
        self.held_batches: dict[tuple[int, ...], Batch] = {}

    @property
    def module(self) -> Classifier:
        """The module that is trained: this one."""
        return self

    @property
    def callbacks(self) -> tuple[lightning.Callback, ...]:
        """No callbacks: the module keeps its own metrics."""
        return ()

    @property
    def num_steps(self) -> int:
        """Steps of the optimizer in this epoch."""
        return self.metrics.num_steps

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map images to logits ``(batch, classes)``.

        Images are ``(batch, channels, height, width)``.
        """
        return self._forward_logits(images)[0]

    def _forward_logits(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Return the logits, then those of auxiliary heads, if any."""
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.recipe.precision == "bfloat16"):
            return extract_logits(self.compute_outputs(images))

    # -- the fit ---------------------------------------------------------------------------------------------------

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Make SGD with momentum; the rates are set step by step."""
        return make_sgd(self.all_parameters, self.recipe)

    def on_train_start(self) -> None:
        """Prepare the steps, after a checkpoint has been restored."""
        # Lightning's own optimizer: its wrapper counts batches, and reads the device's rate on the host.
        optimizer: Any = self.optimizers(use_pl_optimizer=False)
        loader: Any = self.trainer.train_dataloader
        self.prepare_steps(optimizer, int(getattr(loader, "num_steps", len(loader))))  # a user's loader gives batches

    def prepare_steps(self, optimizer: torch.optim.SGD, steps_per_epoch: int) -> None:
        """Prepare the steps on the module's device, under an optimizer of its parameters."""
        self.optimizer, self.steps_per_epoch = optimizer, steps_per_epoch
        self.metrics, self.gradient_norms = RunningMetrics(self.device), GradientNorms(self.network, self.device)
        # A generator costs each replay two kernels, whether or not anything draws from it.
        self._set_dropout_generator(torch.Generator(self.device) if self.dropout_layers else None)
        self.has_device_steps = self.has_device_steps or self.device.type == "cuda"
        self.rates: StepRates = HostRates(optimizer)
        if self.has_device_steps:
            self.rates = DeviceRates(optimizer, steps_per_epoch, self.device)
        if self.device.type == "cuda" and self.dp_rank.is_single_worker:
            self.captured_steps = CapturedSteps(self._find_step_state)

    def on_train_end(self) -> None:
        """Give back what only training needs: the captured steps hold a step's activations."""
        if self.captured_steps:
            self.captured_steps.release()
        self.captured_steps, self.device_epoch = None, None
        self.held_batches.clear()
        self._set_dropout_generator(None)
        self.optimizer.zero_grad()

    def _set_dropout_generator(self, generator: torch.Generator | None) -> None:
        self.dropout_generator = generator
        for layer in self.dropout_layers:
            layer.generator = generator

    def seed_dropout(self, seed: int) -> None:
        """Seed the masks of the next steps."""
        if self.dropout_generator:
            self.dropout_generator.manual_seed(seed)

    def on_train_epoch_start(self) -> None:
        """Begin the trainer's current epoch."""
        self.begin_epoch(self.trainer.current_epoch)

    def begin_epoch(self, epoch: int) -> None:
        """Reset the metrics, and set the rates of the epoch's steps."""
        self.metrics.reset()
        self.gradient_norms.reset()
        first_step = epoch * self.steps_per_epoch
        self.rates.load_epoch([self._learning_rate(first_step + step) for step in range(self.steps_per_epoch)])

    def training_step(self, work: Batch | TrainingEpoch, batch_index: int) -> None:  # noqa: ARG002 - Lightning's
        """Take the steps of a whole epoch, or of one batch of a user's data module."""
        if isinstance(work, (tuple, list)):
            self._train_batch(*work)
        elif self.has_device_steps and work.device_epoch:
            self._train_on_device(work.device_epoch)
        else:
            for images, labels in work:
                self._train_batch(images, labels)

    def _train_batch(self, images: torch.Tensor, global_labels: torch.Tensor) -> None:
        """Take one step on a batch that the host has made."""
        if self.captured_steps:
            images, global_labels = self._hold_batch(images, global_labels)
        self._replay_step(tuple(images.shape), lambda: self._take_step(images, global_labels))
        self._count_step(len(global_labels))

    def _hold_batch(self, images: torch.Tensor, global_labels: torch.Tensor) -> Batch:
        """Copy a batch to where the captured step of its shape reads it."""
        shape = tuple(images.shape)
        if shape not in self.held_batches:
            self.held_batches[shape] = (images.clone(), global_labels.clone())
        held = self.held_batches[shape]
        for tensor, values in zip(held, (images, global_labels), strict=True):
            tensor.copy_(values)
        return held

    def _train_on_device(self, epoch: DeviceEpoch) -> None:
        """Take an epoch's steps, without waiting for any of them."""
        self.device_epoch = epoch
        epoch.load_draws()
        for size in epoch.batch_sizes:
            self._replay_step((size,), lambda size=size: self._take_step(*epoch.cut_batch(size)))  # type: ignore[misc]
            self._count_step(size)

    def _replay_step(self, shape: tuple[int, ...], step: Callable[[], None]) -> None:
        """Take a step by its captured graph, or by calling it where there are no graphs."""
        if self.captured_steps:
            try:
                self.captured_steps.take(shape, step)
                return
            except CaptureError as error:
                self.captured_steps.release()
                self.captured_steps, self.why_not_captured = None, str(error)
        step()

    def _find_step_state(self) -> StepState:
        """What a step changes, on the device."""
        tensors = dict(self.network.named_parameters()) | dict(self.network.named_buffers())
        tensors |= _name_tensors("momentum", allocate_momentum(self.optimizer))
        tensors |= _name_tensors("learning rate", self.rates.state_tensors)
        tensors |= _name_tensors("metric", self.metrics.device_sums)
        tensors |= _name_tensors("gradient norm", self.gradient_norms.state_tensors)
        if self.device_epoch:
            tensors |= _name_tensors("place in the epoch", self.device_epoch.state_tensors)
        layer_sums: dict[str, torch.Tensor] = {}
        for layers, sums in self.gradient_norms.layer_sums.items():
            layer_sums[f"gradient norms of {', '.join(layers)}"] = sums
        default_generator = torch.cuda.default_generators[self.device.index or 0]
        generators = [generator for generator in (self.dropout_generator, default_generator) if generator]
        return StepState(tensors | layer_sums, generators, sums=layer_sums.keys())

    # -- one step: nothing here reads a value of the device on the host, nor counts on the host -----------------------

    def _take_step(self, images: torch.Tensor, global_labels: torch.Tensor) -> None:
        """Compute the gradient of a batch, clip it, and change the weights."""
        self.accumulate_gradients(images, global_labels)
        self.clip_global_norm()
        self.rates.set_next()
        self.optimizer.step()

    def accumulate_gradients(self, images: torch.Tensor, global_labels: torch.Tensor) -> None:
        """Compute the gradient of a batch's mean loss, microbatch by microbatch.

        Args:
            images: this rank's share of the batch.
            global_labels: of the whole batch.
        """
        for parameter in self.all_parameters:
            parameter.grad = None
        local_labels = global_labels[self.dp_rank.begin_global_batch(len(global_labels))]
        for microbatch_images, labels in self._split_microbatches(images, local_labels):
            # Each forward only after the backward before it: one microbatch's activations are held at a time.
            loss = self.compute_loss(microbatch_images, labels, len(global_labels))
            loss.backward()  # type: ignore[no-untyped-call]

    def clip_global_norm(self) -> None:
        """Add up the ranks' gradients and clip the global norm.

        The norm is recorded whether or not the recipe clips it.
        """
        self.dp_rank.all_reduce_gradients(self.all_parameters)
        norm = self.gradient_norms.add_step()
        if self.recipe.clip_norm:
            nn.utils.clip_grads_with_norm_(self.all_parameters, self.recipe.clip_norm, norm)

    def _split_microbatches(self, images: torch.Tensor, labels: torch.Tensor) -> list[Batch]:
        """Split the rank's share of a batch into microbatches.

        A recipe's ``microbatch`` of 0 leaves it whole.
        """
        sizes = list(self.recipe.microbatch_sizes(len(labels)))
        if len(sizes) == 1:
            return [(images, labels)]
        return list(zip(torch.split(images, sizes), torch.split(labels, sizes), strict=True))

    def compute_loss(self, images: torch.Tensor, labels: torch.Tensor, global_batch_size: int) -> torch.Tensor:
        """Return some examples' term of the batch's mean loss, nats, and add it to the metrics.

        The loss is the cross-entropy, with weighted terms of auxiliary heads.
        """
        logits, *auxiliary_logits = self._forward_logits(images)
        loss = self._partial_mean_loss(logits, labels, global_batch_size)
        self.metrics.add_to_sums(loss, logits, labels, global_batch_size)
        if self.auxiliary_weight > 0:
            for head_logits in auxiliary_logits:
                loss = loss + self.auxiliary_weight * self._partial_mean_loss(head_logits, labels, global_batch_size)
        return loss

    def _partial_mean_loss(self, logits: torch.Tensor, labels: torch.Tensor, global_batch_size: int) -> torch.Tensor:
        """Return the examples' summed loss divided by the global batch size."""
        if self.dp_rank.is_single_worker and len(labels) == global_batch_size:
            return functional.cross_entropy(logits, labels)
        # Terms of one mean, whose sum over microbatches and ranks is the global batch's, however unequal they are.
        return functional.cross_entropy(logits, labels, reduction="sum") / global_batch_size

    # -- the end of an epoch -----------------------------------------------------------------------------------------

    def _count_step(self, global_batch_size: int) -> None:
        local_slice = self.dp_rank.local_slice(global_batch_size)
        self.metrics.count_step(local_slice.stop - local_slice.start)
        self.on_step()

    def epoch_metrics(self) -> dict[str, float]:
        """Return the epoch's training metrics by name.

        The learning rate is that of its last step.
        """
        last_step = self.trainer.current_epoch * self.steps_per_epoch + self.metrics.num_steps - 1
        self.metrics.all_reduce(self.dp_rank)
        return {
            "train_loss": self.metrics.mean_loss,
            "train_error": self.metrics.error,
            "learning_rate": self._learning_rate(last_step),
            **self.gradient_norms.mean_norms(self.metrics.num_steps),
        }

    def _learning_rate(self, step: int) -> float:
        """The rate of a step, counted from the start of the fit."""
        total_steps = self.recipe.epochs * self.steps_per_epoch
        factor = learning_rate_factor(self.recipe, step, total_steps, self.plateau.divisions)
        return self.recipe.learning_rate * factor

    def transfer_batches(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Return the batches as they are: the module has no transfer hooks of its own."""
        return batches

    def observe_validation_error(self, error: float) -> None:
        """Divide the rates from the next epoch on if a plateau schedule finds the error stagnant.

        The error is in percent.
        """
        if self.recipe.schedule == "plateau" and self.plateau.observe_error(error):
            self.plateau.count_division()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the plateau schedule's state in a checkpoint."""
        checkpoint["plateau"] = vars(self.plateau)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the plateau schedule's state from a checkpoint."""
        self.plateau = Plateau(**checkpoint["plateau"])
