"""What Lightning guarantees to users' modules and data modules: trainer, logger, data module, callbacks, hooks."""

import json
import math
from typing import ClassVar

import pytest
import pytorch_lightning as lightning
import torch
from pytorch_lightning.callbacks import EarlyStopping, LearningRateMonitor
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from lightning_modules.data.inventory import make_inventory
from lightning_modules.specs.data import ForeignData
from lightning_modules.specs.errors import UserError
from lightning_modules.specs.networks import Custom
from lightning_modules.specs.recipe import Recipe
from lightning_modules.specs.scale import Scale
from lightning_modules.specs.setup import Setup
from studies.design.first_step import prove_first_step
from studies.design.instantiation import instantiate_network
from studies.design.trial import Trial
from studies.hardware import Machine
from studies.storage.trial_folder import TrialFolder
from studies.training.callback import TrainingRecorder
from studies.training.train import train_trial

EPOCHS = 3


def small(channels, classes):
    return nn.Sequential(nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, classes))


class OwnTraining(lightning.LightningModule):
    def __init__(self, channels, classes):
        super().__init__()
        self.save_hyperparameters()
        self.network = small(channels, classes)

    def forward(self, images):
        return self.network(images)

    def training_step(self, batch, _):
        return functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.05, momentum=0.9)


class Logging(OwnTraining):
    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        self.logger.experiment.add_scalar("train/loss", loss, self.global_step)
        self.logger.log_hyperparams({"rate": 0.05})
        self.log("plain", loss)
        self.log("mean_error", 1e6, on_step=False, on_epoch=True)  # no percentage, whatever it is called
        return loss

    def validation_step(self, batch, _):
        self.log("val_loss", functional.cross_entropy(self(batch[0]), batch[1]))

    def on_train_epoch_end(self):
        self.log("at_end", float(self.current_epoch))

    def configure_callbacks(self):
        return [EarlyStopping("val_loss", patience=EPOCHS), LearningRateMonitor()]


class Stopping(OwnTraining):
    def validation_step(self, *_):
        self.log("val_loss", 1.0)

    def configure_callbacks(self):
        return EarlyStopping("val_loss", patience=0)


class Weighted(OwnTraining):
    seen: ClassVar[list] = []  # of the trainer, at each step

    def setup(self, stage):
        del stage
        self.weights = self.trainer.datamodule.class_weights

    def training_step(self, batch, _):
        self.seen.append((type(self.trainer.datamodule), len(self.trainer.train_dataloader.dataset)))
        return functional.cross_entropy(self(batch[0]), batch[1], weight=self.weights)


class Viewed(OwnTraining):
    """A module whose view of a map needs the default layout, in steps that do not call its forward."""

    def __init__(self, channels, classes):
        super().__init__(channels, classes)
        self.first, self.second, self.fc = nn.Conv2d(channels, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(64, classes)

    def forward(self, images):
        return self.fc(self.second(self.first(images)).view(len(images), -1))

    def training_step(self, batch, _):
        return functional.cross_entropy(self.fc(self.second(self.first(batch[0])).view(len(batch[0]), -1)), batch[1])

    def validation_step(self, batch, _):
        self.log("val_loss", self.training_step(batch, 0))


class ViewedInItsStep(Viewed):
    """A module whose forward takes every layout, and whose step needs the default one."""

    def forward(self, images):
        return self.fc(self.second(self.first(images)).flatten(1))


class Doubling(OwnTraining):
    """A module whose own hook doubles the pixels: evaluations must see them doubled as well."""

    seen: ClassVar[list] = []  # whether it was in training, and the largest pixel, of each batch

    def on_after_batch_transfer(self, batch, _):
        return 2 * batch[0], batch[1]

    def forward(self, images):
        if self._trainer is not None:
            self.seen.append((self.training, float(images.max())))
        return super().forward(images)


class WithoutOptimizer(OwnTraining):
    """A module that moves its weights by hand."""

    automatic_optimization = False

    def training_step(self, batch, _):
        loss = super().training_step(batch, _)
        gradients = torch.autograd.grad(loss, list(self.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(self.parameters(), gradients, strict=True):
                parameter.sub_(0.05 * gradient)
        return loss

    def configure_optimizers(self):
        return None


class FailingStep(OwnTraining):
    def training_step(self, batch, _):
        return functional.cross_entropy(self(batch["image"]), batch["label"])


def arrays(count, seed):
    labels = torch.arange(count) % 3
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 1, 8, 8, generator=generator) * 0.2 + 0.4 * labels[:, None, None, None], labels


class Images(lightning.LightningDataModule):
    def __init__(self):
        super().__init__()
        self.class_weights = torch.ones(3)

    def setup(self, stage):
        del stage
        assert self.trainer.world_size == 1
        assert self.trainer.max_epochs == EPOCHS
        self.splits = {"train": arrays(24, 0), "val": arrays(12, 1), "test": arrays(12, 2)}

    def teardown(self, stage):
        del stage, self.splits

    def loader(self, split):
        return DataLoader(TensorDataset(*self.splits[split]), 8)

    def train_dataloader(self):
        return self.loader("train")

    def val_dataloader(self):
        return self.loader("val")

    def test_dataloader(self):
        return self.loader("test")


class Temporary(Images):
    """A data module with files of its own, which are there until it is torn down."""

    calls: ClassVar[list] = []

    def setup(self, stage):
        super().setup(stage)
        self.calls.append(f"setup {stage}")

    def loader(self, split):
        self.calls.append(f"read {split}")
        return super().loader(split)

    def teardown(self, stage):
        super().teardown(stage)
        self.calls.append(f"teardown {stage}")


class Torn(Temporary):
    def teardown(self, stage):
        raise OSError(f"no folder for {stage}")


class Bytes(Images):
    """Dictionaries of bytes, of which the hooks make pairs of floats, with noise while training."""

    def loader(self, split):
        items = [
            {"image": (199 * image).byte(), "label": int(label)}
            for image, label in zip(*self.splits[split], strict=True)
        ]
        return DataLoader(items, 8)

    def on_before_batch_transfer(self, batch, _):
        return batch["image"], batch["label"]

    def on_after_batch_transfer(self, batch, _):
        images, labels = batch[0].float() / 255, batch[1]
        return (images + 0.1 * torch.randn_like(images) if self.trainer.training else images), labels


class NoisyTest(Bytes):
    def on_after_batch_transfer(self, batch, _):
        return batch[0].float() + torch.randn(batch[0].shape), batch[1]


class FailingHook(Bytes):
    def on_after_batch_transfer(self, batch, _):
        return batch[0].float(), batch[2]


class FailingSetup(Images):
    def setup(self, _):
        return self.trainer.no_such_attribute


class Stream(IterableDataset):
    def __init__(self, arrays):
        self.arrays = arrays

    def __iter__(self):
        return iter(list(zip(*self.arrays, strict=True)))


class SizedStream(Stream):
    def __init__(self, arrays, length):
        super().__init__(arrays)
        self.length = length

    def __len__(self):
        return self.length


class Streams(Images):
    """Loaders of streams, of which only that of training has a length."""

    length = 24

    def train_dataloader(self):
        return DataLoader(SizedStream(self.splits["train"], self.length), 8)

    def val_dataloader(self):
        return DataLoader(Stream(self.splits["val"]), 8)

    def test_dataloader(self):
        return (batch for batch in DataLoader(Stream(self.splits["test"]), 8))


class TooLong(Streams):
    length = 100


class TooShort(Streams):
    length = 16


class Endless(Streams):
    def train_dataloader(self):
        class Repeating(SizedStream):
            def __iter__(self):
                while True:
                    yield torch.zeros(1, 8, 8), 0

        return DataLoader(Repeating((), 24), 8)


class TrainOnly(lightning.LightningDataModule):
    def train_dataloader(self):
        return DataLoader(TensorDataset(*arrays(24, 0)), 8)


class Interrupted(BaseException):
    """Stands for a kill: nothing catches it."""


def setup(network="small", data="Images"):
    arguments = {"channels": "$channels", "classes": "$classes"}
    return Setup(
        network=Custom(class_path=f"{__name__}.{network}", init_args=arguments),
        scale=Scale(resolution=8, channels=1, classes=3),
        recipe=Recipe(epochs=EPOCHS, batch_size=8, learning_rate=0.05, augmentation="none"),
        data=ForeignData(class_path=f"{__name__}.{data}"),
    )


def train(given, folder, **keywords):
    trial = Trial(arm="mine", setup=given, seed=0)
    result = train_trial(trial, None, folder, digests={}, machine=Machine(), **keywords)
    assert not result.error
    return result


def test_what_a_module_logs_becomes_curves_of_the_trial(tmp_path):
    lines, reported = [], []
    result = train(setup("Logging"), tmp_path, log=lines.append, on_epoch=reported.append)
    curves = {name: values for name, values in result.curves.items() if name.startswith("logged/")}
    assert set(curves) == {
        "logged/train/loss", "logged/plain", "logged/mean_error", "logged/val_loss", "logged/at_end", "logged/lr-SGD"
    }  # fmt: skip
    assert all(len(values) == EPOCHS and all(map(math.isfinite, values)) for values in curves.values())
    assert curves["logged/at_end"] == (0.0, 1.0, 2.0)  # each epoch's own
    assert curves["logged/train/loss"] == curves["logged/plain"]
    assert [values["logged/at_end"] for values in reported] == [0.0, 1.0, 2.0]
    hyperparameters = json.loads((tmp_path / "hyperparameters.json").read_bytes())
    assert hyperparameters | {"checksum": ""} == {"checksum": "", "channels": 1, "classes": 3, "rate": 0.05}
    assert TrialFolder(tmp_path).read_result().curves.keys() == result.curves.keys()


def test_a_resumed_trial_has_the_logged_curves_of_an_uninterrupted_one(tmp_path, monkeypatch):
    whole = train(setup("Logging"), tmp_path / "whole")

    def stop_in_the_second(values):
        if values["epoch"] == 1:
            raise Interrupted

    with pytest.raises(Interrupted):
        train(setup("Logging"), tmp_path / "parts", on_epoch=stop_in_the_second, checkpoint_seconds=0.0)
    monkeypatch.setattr(TrainingRecorder, "save_checkpoint", lambda *_: None)
    resumed = train(setup("Logging"), tmp_path / "parts")
    for name in whole.curves:
        assert name == "seconds" or resumed.curves[name] == whole.curves[name]


def test_callbacks_that_a_module_configures_may_end_its_training(tmp_path):
    assert len(train(setup("Stopping"), tmp_path).times) == 2


def test_the_trainers_data_module_is_the_users_own(tmp_path):
    Weighted.seen.clear()
    train(setup("Weighted"), tmp_path)
    assert Weighted.seen == EPOCHS * 3 * [(Images, 24)]


def test_a_module_that_views_its_maps_is_trained_in_the_default_layout(tmp_path):
    (note,) = instantiate_network(setup("Viewed")).notes
    assert "Viewed fails on images in channels-last memory, so it is trained in PyTorch's default layout" in note
    assert train(setup("Viewed"), tmp_path).status == "finished"


def test_a_step_that_views_its_maps_decides_the_layout_where_forward_does_not(tmp_path):
    (note,) = instantiate_network(setup("ViewedInItsStep")).notes
    assert "ViewedInItsStep fails on images in channels-last memory" in note
    assert train(setup("ViewedInItsStep"), tmp_path).status == "finished"


def test_a_modules_own_transfer_hooks_run_in_evaluations_too(tmp_path):
    Doubling.seen.clear()
    train(setup("Doubling"), tmp_path)
    assert {training for training, _ in Doubling.seen} == {True, False}
    assert min(largest for _, largest in Doubling.seen) > 1.5


def test_a_module_without_an_optimizer_trains_as_under_lightning(tmp_path):
    result = train(setup("WithoutOptimizer"), tmp_path)
    losses = result.curves["train_loss"]
    assert losses[-1] < losses[0]
    assert result.status == "finished"


def test_the_first_step_of_a_module_that_trains_itself_is_proved_on_the_studys_data():
    state = torch.get_rng_state()
    assert prove_first_step("mine", setup("Weighted"), None, torch.device("cpu")) == ""
    assert prove_first_step("mine", setup("Logging"), None, torch.device("cpu")) == ""
    note = prove_first_step("mine", setup("WithoutOptimizer"), None, torch.device("cpu"))
    assert note.startswith("WithoutOptimizer has no optimizer: its configure_optimizers returns None")
    assert torch.equal(torch.get_rng_state(), state)
    said = (
        r"mine: FailingStep trains itself, and its first step on the study's data fails at test_surroundings\.py, line"
    )
    with pytest.raises(UserError, match=said):
        prove_first_step("mine", setup("FailingStep"), None, torch.device("cpu"))


def test_a_data_module_is_torn_down_once_nothing_reads_it_any_more(tmp_path):
    Temporary.calls.clear()
    train(setup(data="Temporary"), tmp_path)
    assert Temporary.calls[:2] == ["setup fit", "setup test"]
    assert Temporary.calls[-2:] == ["read test", "teardown fit"]
    Temporary.calls.clear()
    make_inventory(setup(data="Temporary"), (0, 1), tmp_path, tmp_path)
    assert Temporary.calls.count("teardown fit") == Temporary.calls.count("setup fit") == 3


def test_a_failing_teardown_is_told_before_the_study_and_costs_no_result(tmp_path):
    lines = []
    train(setup(data="Torn"), tmp_path, log=lines.append)
    (line,) = lines
    assert line.startswith("Torn.teardown('fit') fails at test_surroundings.py, line")
    with pytest.raises(UserError, match=r"Torn\.teardown\('fit'\) fails .*no folder for fit"):
        make_inventory(setup(data="Torn"), (0,), tmp_path, tmp_path)


def test_hooks_of_a_data_module_make_the_batch_right(tmp_path):
    inventory = make_inventory(setup(data="Bytes"), (0, 1), tmp_path, tmp_path)
    assert inventory.split_sizes == {"train": 24, "validation": 12, "test": 12}
    assert inventory.train_batch_sizes == {8}
    result = train(setup(data="Bytes"), tmp_path / "noisy")
    again = train(setup(data="Bytes"), tmp_path / "again")
    assert result.evidence == again.evidence
    assert result.metrics["train_loss"] == again.metrics["train_loss"]  # the noise is the seed's


def test_lengths_are_needed_for_training_only(tmp_path):
    assert make_inventory(setup(data="Streams"), (0,), tmp_path, tmp_path).split_sizes["test"] == 12
    train(setup(data="Streams"), tmp_path / "trial")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (
            "NoisyTest",
            r"read twice, it gives different batches.*in a transfer hook, one only `if self\.trainer\.training`",
        ),
        ("FailingHook", r"FailingHook's train_dataloader fails at test_surroundings\.py, line \d+: IndexError: tuple"),
        (
            "FailingSetup",
            r"FailingSetup\.setup\('fit'\) fails at test_surroundings\.py, line \d+: AttributeError: .*no_such",
        ),
        (
            "TooLong",
            r"TooLong's train_dataloader says by __len__ that it has 13 batches, and yields 3; expected as many",
        ),
        (
            "TooShort",
            r"TooShort's train_dataloader says by __len__ that it has 2 batches, and yields more; expected as many",
        ),
        ("Endless", r"Endless's train_dataloader says by __len__ that it has 3 batches, and yields more"),
        ("TrainOnly", r"TrainOnly's val_dataloader is missing: a study trains, validates and tests"),
    ],
)
@pytest.mark.filterwarnings("ignore:Length of IterableDataset")
def test_what_cannot_be_used_is_told_with_its_class_and_line(tmp_path, data, said):
    with pytest.raises(UserError, match=said):
        make_inventory(setup(data=data), (0,), tmp_path, tmp_path)
