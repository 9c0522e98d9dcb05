"""The training recipe: optimizer, schedule, augmentation, precision."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from lightning_modules.specs.values import OMIT_DEFAULT, check_fields, require_field

Augmentation = Literal["none", "shift", "shift-flip", "crop-flip", "crop-flip-colour"]
Schedule = Literal["constant", "cosine", "plateau"]
Precision = Literal["float32", "bfloat16"]
TrainingTarget = Literal["network", "linear classifier"]
Remainder = Literal["keep", "drop", "join"]
MAX_EPOCHS, MAX_BATCH_SIZE = 100_000, 1_000_000  # beyond any study: larger ones are typing errors
CROP_AUGMENTATIONS: tuple[Augmentation, ...] = ("crop-flip", "crop-flip-colour")  # these rescale images first


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a network is trained: SGD with momentum under a schedule that warms up linearly.

    Attributes:
        epochs: passes over the training split.
        batch_size: examples per step; ``remainder`` says what happens to the examples after the last whole batch.
        learning_rate: peak rate, after the warm-up.
        momentum: of SGD, without dampening.
        weight_decay: L2 penalty on weights, not on biases.
        warmup: fraction of all steps in which the rate rises linearly from 0.
        schedule: of the learning rate after the warm-up; ``plateau`` divides the rate by ten, three times at most,
            whenever the validation error has not improved for ``patience`` epochs (Simonyan & Zisserman 2015, Sect.
            3.1).
        clip_norm: largest global norm of the gradient; 0: no clipping.
        patience: of the schedule ``plateau``, epochs.
        augmentation: ``shift`` moves each image by up to an eighth of its side, ``-flip`` mirrors half of them;
            ``crop`` takes a random crop of the scale's resolution from the rescaled image, and ``-colour`` shifts its
            colors along their principal components (Krizhevsky et al. 2012, Sect. 4.1).
        side_from: lower end of the range from which the shorter side of each training image is drawn uniformly, in
            whole pixels; the image is rescaled to it, isotropically, before it is cropped. In units of the scale's
            resolution; 0: images are used as stored. For validation and test, images are rescaled to the mean of the
            range, and their center is cropped.
        side_to: upper end of that range.
        microbatch: number of examples whose gradients are computed at once and accumulated over the batch; 0: the whole
            batch. Batch norm takes its statistics from each microbatch separately.
        remainder: what happens to the examples after an epoch's last whole batch: ``keep`` makes a smaller batch of
            them, ``drop`` leaves them out, others in every epoch, and ``join`` adds them to the last whole batch. With
            the latter two, the remainder of a batch in microbatches joins the last microbatch.
        precision: of the forward and backward pass; weights and their updates are float32.
        compiled: whether training compiles the network (``torch.compile``), in every arm alike. Its rounding is not
            that of the uncompiled network, and compiling takes a minute or more of every trial.
        trains: the ``network``, or a ``linear classifier`` on the penultimate activations of the network at its initial
            weights. The latter takes no epochs; of the recipe, only the treatment of images affects it.
    """

    epochs: int = 74
    batch_size: int = 256
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup: float = 0.0
    schedule: Schedule = "cosine"
    clip_norm: float = 0.0
    patience: int = 5
    augmentation: Augmentation = "shift-flip"
    side_from: float = 0.0
    side_to: float = 0.0
    microbatch: int = 0
    precision: Precision = "float32"
    trains: TrainingTarget = "network"
    # Later than the records of many trials, whose fingerprints lack them.
    remainder: Remainder = field(default="keep", metadata=OMIT_DEFAULT)
    compiled: bool = field(default=False, metadata=OMIT_DEFAULT)

    def __post_init__(self) -> None:
        check_fields(self)
        require_field(1 <= self.epochs <= MAX_EPOCHS, self, "epochs", f"1 to {MAX_EPOCHS:,}")
        require_field(1 <= self.batch_size <= MAX_BATCH_SIZE, self, "batch_size", f"1 to {MAX_BATCH_SIZE:,}")
        require_field(self.learning_rate > 0, self, "learning_rate", "a rate above 0")
        require_field(0 <= self.momentum < 1, self, "momentum", "a number from 0 to less than 1")
        require_field(self.weight_decay >= 0, self, "weight_decay", "0 or more")
        require_field(0 <= self.warmup <= 1, self, "warmup", "a fraction of the steps from 0 to 1")
        require_field(self.clip_norm >= 0, self, "clip_norm", "0 (no clipping) or more")
        require_field(self.patience >= 1, self, "patience", "1 epoch or more")
        for name in ("side_from", "side_to"):
            side = getattr(self, name)
            require_field(
                side == 0 or side >= 1, self, name, "0 (images as stored), or 1 or more of the scale's resolution"
            )
        require_field(self.microbatch >= 0, self, "microbatch", "0 (the whole batch at once) or more examples")

    def __repr__(self) -> str:
        import dataclasses

        from lightning_modules.specs.notebook_html import describe_object, list_changed_fields

        facts = [f"{self.epochs} epochs", f"batch_size {self.batch_size}", f"learning_rate {self.learning_rate:g}"]
        facts += [self.schedule, self.augmentation]
        always_shown = {"epochs", "batch_size", "learning_rate", "schedule", "augmentation"}
        others = [field.name for field in dataclasses.fields(self) if field.name not in always_shown]
        return describe_object(self, f"of {', '.join([*facts, *list_changed_fields(self, others)])}")

    def batch_sizes(self, num_examples: int) -> tuple[int, ...]:
        """Return the sizes of the batches of an epoch over some training examples, in their order."""
        return _split_sizes(num_examples, self.batch_size, self.remainder)

    def microbatch_sizes(self, batch_size: int) -> tuple[int, ...]:
        """Return the sizes of the microbatches of a batch, in their order: its own where it is not split."""
        if not 0 < self.microbatch < batch_size:
            return (batch_size,)
        # Not dropped: every batch would lose the same number of examples.
        return _split_sizes(batch_size, self.microbatch, "keep" if self.remainder == "keep" else "join")

    @property
    def mean_side(self) -> float:
        """Shorter side of validation and test images, in units of the resolution; 0: images as stored."""
        return (self.side_from + self.side_to) / 2


def _split_sizes(num_examples: int, size: int, remainder: Remainder) -> tuple[int, ...]:
    num_whole, rest = divmod(num_examples, size)
    if num_whole == 0:  # nothing to join, and nothing would be left
        return (rest,)
    sizes = [size] * num_whole
    if rest and remainder == "keep":
        sizes.append(rest)
    elif remainder == "join":
        sizes[-1] += rest
    return tuple(sizes)
