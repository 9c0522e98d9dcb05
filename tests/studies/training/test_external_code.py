"""A user's own networks, data and ablation, in files of theirs: the contract, the training and the report hold."""

import ast
import importlib
import json
import os
import random
import sys
import textwrap
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from pytorch_lightning import LightningModule

import ablations
import reports
import studies
from ablations import Ablation, Arm, InvalidAblation, NotASingleChange, UnknownAblation
from lightning_modules.data.inventory import _require_class_labels, make_inventory
from lightning_modules.modules.trainable import make_trainable
from lightning_modules.networks.build import build_meta_network
from lightning_modules.networks.initialization import build_initialized_network
from lightning_modules.networks.outputs import extract_logits
from lightning_modules.spec import Custom
from lightning_modules.specs.catalogue import GOOGLENET, VGG_A
from lightning_modules.specs.data import ForeignData
from lightning_modules.specs.errors import UserError
from lightning_modules.specs.recipe import Recipe
from lightning_modules.specs.scale import Scale
from lightning_modules.specs.setup import Setup
from studies.cli.app import main
from studies.design.declare import declare
from studies.design.instantiation import compare_modules, instantiate_network
from studies.design.preview import preview_study
from studies.design.trial import Trial
from studies.design.tuning import TuningBudget
from studies.design.verification import build_verified_networks
from studies.hardware import Machine
from studies.records.digests import (
    _import_closure,
    _without_declarations,
    code_digest,
    collect_class_paths,
    user_code_digest,
)
from studies.records.results import result_to_json
from studies.runner.context import prepare_study
from studies.runner.driver import run_study
from studies.runner.trial_store import TrialStore
from studies.settings import Settings
from studies.storage.trial_folder import TrialFolder
from studies.training.callback import TrainingRecorder
from studies.training.train import train_trial
from tests.studies.conftest import ONE
from tests.studies.runner.test_driver import trial_processes

ROOT = Path(studies.__file__).parent.parent
SCALE = Scale(resolution=8, channels=1, classes=10)
RECIPE = Recipe(epochs=3, batch_size=64, learning_rate=0.05, augmentation="shift")
ARGUMENTS = {"channels": "$channels", "classes": "$classes"}
TINY = {"recipe.epochs": 1, "recipe.batch_size": 64, "scale.width": 0.0625}
SHORT = {"recipe.epochs": 2, "recipe.batch_size": 64, "scale.resolution": 8}

NETWORKS = '''
import random

import numpy as np
import pytorch_lightning as lightning
import torch
from torch import nn
from torch.nn import functional

made = []


def small(channels, classes, activation="relu", norm="batch", ignored=0):
    acts = {"relu": nn.ReLU, "gelu": nn.GELU}
    bias = norm == "none"  # hidden: what is called a change of the norm adds a bias
    norms = [] if norm == "none" else [nn.BatchNorm2d(8)]
    layers = [nn.Conv2d(channels, 8, 3, padding=1, bias=bias), *norms, acts[activation]()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, classes))


def scaled(channels, classes, factor=1.0):
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.factor = small(channels, classes), factor

        def forward(self, images):
            return self.factor * self.inner(images)

    return Scaled()


def counting(channels, classes):
    made.append(1)
    return small(channels, classes, "relu" if len(made) == 1 else "gelu")


def drawn(channels, classes):
    network = small(channels, classes)
    with torch.no_grad():
        network[0].weight.mul_(random.random()).add_(float(np.random.rand()))
    return network


def nothing():
    return None


def image_to_image(channels, classes):
    return nn.Conv2d(channels, channels, 3)


class OwnTraining(lightning.LightningModule):
    """Everything that a module may do for itself: hooks, logging, validation, a schedule that follows a metric."""

    def __init__(self, channels, classes, rate=3e-3):
        super().__init__()
        self.save_hyperparameters()
        self.network = nn.Sequential(small(channels, classes, "gelu"), nn.Dropout(0.1))
        self.register_buffer("smoothed", torch.zeros(()))

    def forward(self, images):
        return self.network(images)

    def training_step(self, batch, batch_idx):
        images, labels = batch
        mixed = images * float(np.random.uniform(0.9, 1.1)) + 0.01 * random.random()
        loss = functional.cross_entropy(self(mixed), labels)
        self.log("train_loss", loss, on_epoch=True, prog_bar=True)
        return {"loss": loss, "more": 1}

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", functional.cross_entropy(self(batch[0]), batch[1]))

    def on_train_epoch_end(self):
        self.smoothed.mul_(0.5).add_(self.network[0][0].weight.detach().norm())
        with torch.no_grad():
            self.network[0][-1].weight.mul_(0.999)

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=self.hparams.rate)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0, threshold=1e9)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "val_loss"}}


def spectral(channels, classes):
    """Reading the weights of its first layer changes that layer's buffers."""
    network = small(channels, classes)
    network[0] = nn.utils.parametrizations.spectral_norm(network[0])
    return network


class SpectralTraining(OwnTraining):
    """A module that trains itself, with such a layer."""

    def __init__(self, channels, classes):
        super().__init__(channels, classes)
        self.network[0] = spectral(channels, classes)


class NewHead(OwnTraining):
    """A module that replaces its last layer in its second epoch."""

    def on_train_epoch_start(self):
        if self.current_epoch == 1:
            self.network[0][-1] = nn.Linear(self.network[0][-1].in_features, self.network[0][-1].out_features)


class ByHand(lightning.LightningModule):
    """Manual optimization, two optimizers, no loss returned."""

    def __init__(self, channels, classes):
        super().__init__()
        self.automatic_optimization = False
        self.network = small(channels, classes)

    def forward(self, images):
        return self.network(images), images  # logits come first

    def training_step(self, batch, batch_idx):
        for optimizer in self.optimizers():
            optimizer.zero_grad()
        self.manual_backward(functional.cross_entropy(self(batch[0])[0], batch[1]))
        for optimizer in self.optimizers():
            optimizer.step()

    def configure_optimizers(self):
        first, last = self.network[0].parameters(), self.network[-1].parameters()
        return [torch.optim.SGD(first, lr=0.1), torch.optim.Adam(last, lr=0.01)]


class NoForward(lightning.LightningModule):
    def __init__(self, channels, classes):
        super().__init__()
        self.network = small(channels, classes)
'''

DATA = """
import numpy as np
import pytorch_lightning as lightning
import torch
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, Dataset, TensorDataset, random_split


class Noisy(Dataset):
    def __init__(self, inner, noise):
        self.inner, self.noise = inner, noise

    def __len__(self):
        return len(self.inner)

    def __getitem__(self, index):
        image, label = self.inner[index]
        return image + self.noise * torch.randn_like(image), label


class Digits(lightning.LightningDataModule):
    prepared = 0

    def __init__(self, noise=0.1, workers=0, fault=""):
        super().__init__()
        self.noise, self.workers, self.fault = noise, workers, fault

    def prepare_data(self):
        Digits.prepared += 1

    def setup(self, stage):
        pixels, labels = load_digits(return_X_y=True)
        images = torch.tensor(pixels, dtype=torch.float32).reshape(-1, 1, 8, 8) / 8 - 1
        everything = TensorDataset(images, torch.tensor(labels))
        if stage == "fit":
            rest, _ = random_split(everything, [400, len(labels) - 400], torch.Generator().manual_seed(1))
            self.train, self.val = random_split(rest, [300, 100])
        elif self.fault == "drawn":
            self.test, _ = random_split(everything, [300, len(labels) - 300])
        else:
            self.test = TensorDataset(images[-300:], torch.tensor(labels[-300:]))

    def train_dataloader(self):
        if self.fault == "unseeded":
            own = np.random.default_rng()
            return DataLoader(self.train, 50, sampler=own.permutation(300).tolist())
        return DataLoader(Noisy(self.train, self.noise), 50, shuffle=True, num_workers=self.workers)

    def val_dataloader(self):
        return DataLoader(self.val, 50)

    def test_dataloader(self):
        if self.fault == "none":
            return super().test_dataloader()
        if self.fault == "two":
            return [DataLoader(self.test, 50), DataLoader(self.test, 50)]
        if self.fault == "alone":
            return DataLoader(TensorDataset(self.test.tensors[0]), 50)
        if self.fault == "wide":
            images, labels = self.test.tensors
            return DataLoader(TensorDataset(images.repeat(1, 3, 1, 2), labels), 50)
        if self.fault == "classes":
            images, labels = self.test.tensors
            return DataLoader(TensorDataset(images, labels + 2), 50)
        if self.fault == "negative":
            images, labels = self.test.tensors
            return DataLoader(TensorDataset(images, labels - 1), 50)
        if self.fault == "not finite":
            images, labels = self.test.tensors
            return DataLoader(TensorDataset(images / 0, labels), 50)
        return DataLoader(self.test, 50, shuffle=self.fault == "shuffled")
"""

ABLATION = '''
"""Is GELU better than ReLU?"""
from ablations import Ablation, Arm, Helps
from lightning_modules.spec import Custom, ForeignData

SCALE = {"channels": "$channels", "classes": "$classes"}
MINE = {"data": ForeignData(class_path="foreign_loaders.Digits", init_args={"workers": 1})}


def network(name, **arguments):
    return Custom(class_path=f"foreign_networks.{name}", init_args={**SCALE, **arguments})


ABLATION = Ablation(
    question=__doc__,
    baseline=Arm("relu", {"network": network("small"), **MINE}),
    arms=(
        Arm("gelu", {"network": network("small", activation="gelu"), **MINE}),
        Arm("own", {"network": network("OwnTraining"), **MINE}),
        Arm("by hand", {"network": network("ByHand"), **MINE}),
    ),
    varies=("network",),
    claims=(Helps(arm="gelu", over="relu"),),
)
'''


@dataclass(frozen=True)
class Ran:
    """A user's folder, and the study of the ablation in it."""

    folder: Path
    file: Path
    runs: Path
    record: object


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """The user's folder, outside of the repository."""
    folder = tmp_path_factory.mktemp("user")
    for name, text in (("networks", NETWORKS), ("loaders", DATA), ("ablation", ABLATION)):
        (folder / f"foreign_{name}.py").write_text(text.strip() + "\n")
    sys.path.insert(0, str(folder))
    return folder


@pytest.fixture(scope="session")
def ran(folder, tmp_path_factory, one_ray):
    """The user's study, run once by the real driver."""
    file, runs = folder / "foreign_ablation.py", tmp_path_factory.mktemp("foreign")
    record = studies.run(str(file), seeds=2, overrides=SHORT, runs=runs, resources=ONE, quiet=True)
    return Ran(folder, file, runs, record)


def network(name, **arguments):
    return Custom(class_path=f"foreign_networks.{name}", init_args={**ARGUMENTS, **arguments})


def setup(name, **arguments):
    return Setup(network=network(name, **arguments), scale=SCALE, recipe=RECIPE, data=data())


def data(**arguments):
    return ForeignData(class_path="foreign_loaders.Digits", init_args=arguments)


# -- end to end ----------------------------------------------------------------------------------------------------

recorded_once = pytest.mark.xdist_group("one foreign study")


@recorded_once
def test_every_arm_of_a_users_study_is_trained_and_none_fails(ran):
    assert {(trial.arm, trial.seed) for trial in ran.record.trials} == {
        (arm, seed) for arm in ("relu", "gelu", "own", "by hand") for seed in (0, 1)
    }
    assert {trial.state for trial in ran.record.trials} <= {"finished", "non-finite", "at chance"}


@recorded_once
def test_what_cannot_be_known_of_its_own_training_has_no_curve(ran):
    curves = {trial.arm: trial.result.curves for trial in ran.record.trials}
    assert "train_error" in curves["relu"]
    assert "train_error" not in curves["own"]
    assert "train_loss" in curves["own"]
    assert "train_loss" not in curves["by hand"]
    for found in curves.values():
        assert {"validation_error", "validation_loss", "learning_rate", "gradient_norm", "seconds"} <= set(found)
        assert any(name.startswith("gradient_norm/") for name in found)
        assert {len(curve) for curve in found.values()} == {2}
    assert curves["own"]["learning_rate"] == (3e-3, 1.5e-3)


@recorded_once
def test_arms_under_one_seed_share_what_their_data_module_draws(ran):
    evidence = {(trial.arm, trial.seed): trial.result.evidence for trial in ran.record.trials}
    for name in ("order", "augmentation", "split"):
        found = [{evidence[arm, seed][name] for arm in ("relu", "gelu", "own", "by hand")} for seed in (0, 1)]
        assert [len(each) for each in found] == [1, 1]
        assert found[0] != found[1]
    assert {arm: evidence[arm, 0]["steps"] for arm in ("relu", "own", "by hand")} == {
        "relu": 12, "own": 12, "by hand": 24,
    }  # fmt: skip


@recorded_once
def test_its_test_error_is_that_of_its_predictions(ran):
    for trial in ran.record.trials:
        wrong = (trial.result.predictions != ran.record.labels).mean()
        assert trial.result.metrics["test_error"] == pytest.approx(100 * wrong)


@recorded_once
def test_the_registration_says_whose_data_they_are_and_what_is_not_known(ran):
    registration = ran.record.registration
    assert {name: registration.data[name] for name in ("name", "classes", "train", "validation", "test")} == {
        "name": "foreign_loaders.Digits", "classes": 10, "train": 300, "validation": 100, "test": 300,
    }  # fmt: skip
    assert registration.held["data.kind"] == "ForeignData"
    said = " ".join(registration.unknowns["own"])
    assert "It trains itself: loss, optimizer, schedule, clipping and precision are its own" in said
    assert "trained differently from 'relu', 'gelu'" in said
    assert "foreign_loaders.Digits reads its own data" in said
    assert "trains itself" not in " ".join(registration.unknowns["relu"])


@recorded_once
def test_the_report_of_a_users_study_is_compiled(ran, tmp_path):
    report = reports.load("foreign_ablation", runs=ran.runs)
    assert "Is GELU better than ReLU?" in report.markdown()
    page = report.write(tmp_path / "report")
    assert "It trains itself" in page.read_text()


@recorded_once
def test_a_second_run_trains_nothing_and_commands_are_told_by_the_stem(ran):
    edits = [word for path, value in SHORT.items() for word in ("--set", f"{path}={value}")]
    line = ["run", str(ran.file), "--seeds", "2", *edits, "--runs", str(ran.runs)]
    shown = CliRunner().invoke(main, line)
    assert "nothing to train: all 8 trials have ended" in shown.output
    assert "ablate report foreign_ablation --protocol digits" in shown.output


@recorded_once
@pytest.mark.parametrize("name", ["foreign_ablation", "foreign_ablation.py"])
@pytest.mark.parametrize("command", ["status", "report"])
def test_status_and_report_take_the_stem_and_the_path(ran, name, command, monkeypatch):
    monkeypatch.chdir(ran.folder)
    shown = CliRunner().invoke(main, [command, name, "--runs", str(ran.runs)])
    assert shown.exit_code == 0, shown.output


@recorded_once
def test_no_process_is_left_behind(ran):
    assert list(trial_processes(os.getpid())) == []


# -- the file ------------------------------------------------------------------------------------------------------

PLANTED = """
from ablations import Ablation, Arm
from lightning_modules.catalogue import VGG_A, VGG_A_LRN
ABLATION = Ablation(
    question="Does it show?",
    baseline=Arm("A", {"network": VGG_A}),
    arms=(Arm("LRN", {"network": VGG_A_LRN, **EXTRA}),),
    varies=("network.norm",),
)
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A place for a user's files; nothing of them stays imported."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)

    def write(name, text):
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    yield write
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def test_an_ablation_is_loaded_from_anywhere_and_anew_each_time(place):
    file = place("planted_here.py", PLANTED.replace("EXTRA", "{}"))
    assert ablations.load(file).question == "Does it show?"
    assert (ablations.ablation_name(file), ablations.find_import_paths(file)) == (
        "planted_here",
        (str(Path(file).parent),),
    )
    place("planted_here.py", PLANTED.replace("EXTRA", "{}").replace("show", "hide"))
    assert ablations.load(file).question == "Does it hide?"


def test_the_path_of_a_file_of_the_package_is_its_name():
    assert ablations.load("ablations/lrn.py") is ablations.load("lrn")
    assert ablations.find_import_paths("ablations/lrn.py") == ablations.find_import_paths("lrn") == ()


def test_a_second_change_in_a_users_file_is_refused(place):
    with pytest.raises(NotASingleChange, match=r"may vary only network\.norm, but it also changes\s+recipe\.momentum"):
        ablations.load(place("planted_here.py", PLANTED.replace("EXTRA", '{"recipe.momentum": 0.5}')))


@pytest.mark.parametrize(
    ("name", "text", "kind", "said"),
    [
        ("empty_one.py", "x = 1\n", InvalidAblation, r"empty_one\.py must define ABLATION = Ablation\(\.\.\.\)"),
        ("broken_one.py", "x = 1\ny = (\n", InvalidAblation, r"broken_one\.py, line 2: SyntaxError: '\(' was never"),
        (
            "lost_one.py",
            "\nimport not_there\n",
            InvalidAblation,
            r"lost_one\.py, line 2: ModuleNotFoundError: .*not_th",
        ),
        ("wrong_one.py", "\n\nx = y\n", InvalidAblation, r"wrong_one\.py, line 3: NameError: name 'y'"),
        ("depth.py", "", InvalidAblation, r"depth\.py cannot be named 'depth': that is the name of an ablation of"),
        ("random.py", "", InvalidAblation, r"that is the name of a module of Python's standard library\. Rename"),
        (
            "torch.py",
            "",
            InvalidAblation,
            r"'torch': that is the name of a module that is already imported, from .*Rename",
        ),
        ("two words.py", "", InvalidAblation, r"two words\.py is not a valid file name for an ablation"),
    ],
)
def test_a_file_that_is_none_is_told_where_and_why(place, name, text, kind, said):
    with pytest.raises(kind, match=said):
        ablations.load(place(name, text))


def test_a_file_that_is_not_there_is_said(tmp_path, monkeypatch):
    with pytest.raises(UnknownAblation, match=r"there is no file .*/nowhere\.py"):
        ablations.load("./nowhere.py")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("")
    with pytest.raises(UnknownAblation, match=r"No ablation named 'mine'.*give its path, \./mine\.py"):
        ablations.load("mine")


@recorded_once
def test_show_says_what_is_not_known(ran):
    shown = preview_study(declare(str(ran.file), seeds=2, overrides=SHORT))
    assert (shown.seconds, shown.arms["own"].seconds) == (None, None)
    printed = CliRunner().invoke(main, ["show", str(ran.file), "--set", "scale.resolution=8"])
    assert printed.exit_code == 0, printed.output
    assert "time     unknown" in printed.output


# -- networks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (network("smal"), r"foreign_networks has no class or function 'smal'\. Did you mean 'small'\?"),
        (Custom(class_path="no_such_module.net"), r"'no_such_module\.net' cannot be imported: .* on Python's path\?"),
        (
            network("small", depth=3),
            r"small\(.*depth=3\) cannot be called: .*'depth'\. Its signature is \(channels, cl",
        ),
        (
            network("small", activation="tanh"),
            r"small\(.*'tanh'.*\) failed at foreign_networks\.py, line 16: KeyError: 'tanh'",
        ),
        (Custom(class_path="foreign_networks.nothing"), r"nothing returned None; expected an nn\.Module"),
        (
            network("image_to_image"),
            r"Conv2d gives the shape \(1, 1, 6, 6\) for one image; expected logits .* \(1, 10\)",
        ),
        (network("NoForward"), r"NoForward fails on an image of 1 x 8 x 8: .*forward"),
    ],
)
def test_a_network_that_cannot_be_used_is_told_why(folder, given, said):
    with pytest.raises(UserError, match=said):
        instantiate_network(replace(setup("small"), network=given))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("raises", "x = 1\nraise ValueError('no such file')", r" at raises\.py, line 2: ValueError: no such file"),
        ("misspelt", "def net(:\n", r": SyntaxError: invalid syntax \(misspelt\.py, line 1\)"),
        ("needs", "\nimport no_such_package", r" at needs\.py, line 2: No module named 'no_such_package'\.$"),
        ("wants", "\nfrom math import no_such", r" at wants\.py, line 2: ImportError: cannot import name 'no_such'"),
    ],
)
def test_a_module_that_cannot_be_imported_is_told_by_its_line(tmp_path, monkeypatch, name, content, said):
    (tmp_path / f"{name}.py").write_text(content, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=f"'{name}.net' cannot be imported{said}"):
        instantiate_network(replace(setup("small"), network=Custom(class_path=f"{name}.net")))


def test_a_module_of_the_other_lightning_is_told_what_to_import(folder, monkeypatch):
    import foreign_networks

    class Other(torch.nn.Module):
        pass

    Other.__module__ = "lightning.pytorch.core.module"
    monkeypatch.setattr(foreign_networks, "nothing", Other)
    with pytest.raises(UserError, match=r"an object of the package `lightning`.* Import pytorch_lightning there"):
        build_meta_network(Custom(class_path="foreign_networks.nothing"), SCALE)


def test_a_factory_that_does_not_build_alike_twice_is_refused(folder, monkeypatch):
    import foreign_networks

    monkeypatch.setattr(foreign_networks, "made", [])
    slow = replace(setup("counting"), recipe=replace(RECIPE, learning_rate=0.01))
    with pytest.raises(NotASingleChange, match=r"declare one network, but two builds of it differ:\s+2: ReLU"):
        build_verified_networks({"fast": setup("counting"), "slow": slow})


def test_a_bias_that_comes_with_no_norm_shows_in_what_is_built(folder):
    before, after = instantiate_network(setup("small")), instantiate_network(setup("small", norm="none"))
    changed = {change.path: (change.before, change.after) for change in compare_modules(before, after)}
    assert "bias=False" in changed["0"][0]
    assert "bias=False" not in changed["0"][1]


def test_arms_that_differ_in_an_ignored_argument_are_refused(folder):
    with pytest.raises(
        InvalidAblation, match="declared differently, but their instantiated networks are equal, module by module"
    ):
        build_verified_networks({"one": setup("small"), "other": setup("small", ignored=1)})


def test_arms_whose_difference_shows_only_in_what_they_compute_are_not_refused(folder):
    assert set(build_verified_networks({"one": setup("scaled"), "other": setup("scaled", factor=2.0)})) == {
        "one",
        "other",
    }


@pytest.mark.parametrize(
    ("arm", "path", "value"),
    [("OwnTraining", "learning_rate", 0.5), ("ByHand", "clip_norm", 1.0), ("small", "augmentation", "none")],
)
def test_arms_that_differ_in_a_setting_that_reaches_neither_are_refused(folder, arm, path, value):
    other = replace(setup(arm), recipe=replace(RECIPE, **{path: value}))
    with pytest.raises(InvalidAblation, match=rf"differ in recipe\.{path}, which has no effect on either"):
        build_verified_networks({"one": setup(arm), "other": other})


def test_a_module_that_trains_itself_is_not_tuned_by_a_recipe_that_it_does_not_read(folder):
    """Its candidates would all be one, and the arm the only one without a tuned recipe."""
    arms = {"recipe's": setup("small"), "own": setup("OwnTraining")}
    tuning = TuningBudget(trials=4).resolve_for_study(arms, ["network"])
    with pytest.raises(InvalidAblation, match=r"recipe\.learning_rate is to be tuned, and has no effect on arm 'own'"):
        build_verified_networks(arms, tuning)


def test_its_initial_weights_are_the_seeds_and_the_process_draws_on_as_before(folder):
    def drawn():
        return [torch.rand(1).item(), float(np.random.rand()), random.random()]

    def seed():
        torch.manual_seed(5), np.random.seed(5), random.seed(5)

    seed()
    expected = drawn()
    seed()
    weights = [build_initialized_network(network("drawn"), SCALE, number)[0].weight for number in (0, 0, 1)]
    assert drawn() == expected
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_googlenets_auxiliary_heads_count_in_its_loss():
    given = Setup(network=GOOGLENET, scale=Scale(resolution=32, channels=3, classes=10), recipe=RECIPE)
    losses = []
    for weight in (0.0, 0.3):
        model = make_trainable(replace(given, network=replace(GOOGLENET, auxiliary_weight=weight)), 0).module
        images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        torch.manual_seed(0)
        loss = model.compute_loss(images, torch.arange(4), 4)
        loss.backward()
        losses.append(float(loss.detach()))
        heads = [parameter for name, parameter in model.network.named_parameters() if name.startswith("aux")]
        assert len(heads) > 0
        assert any(parameter.grad is not None for parameter in heads) == (weight > 0)
    torch.manual_seed(0)
    with torch.no_grad():
        _, *auxiliary = extract_logits(model.network(images))
    further = [float(torch.nn.functional.cross_entropy(each, torch.arange(4))) for each in auxiliary]
    assert len(further) == 2
    assert losses[1] - losses[0] == pytest.approx(0.3 * sum(further), rel=1e-4)


# -- training ------------------------------------------------------------------------------------------------------

DIGESTS = {"data": "d", "code": "c", "platform": "p"}


def run(given, folder, examples=None, **keywords):
    fit = Trial(arm="mine", setup=given, seed=0)
    result = train_trial(fit, examples, folder, digests=DIGESTS, machine=Machine(), **keywords)
    assert result.status != "failed", result.error
    return result


def bits(folder):
    weights = torch.load(folder / "weights.pt", weights_only=True)
    result = result_to_json(TrialFolder(folder).read_result())
    result["curves"].pop("seconds")
    return {name: tensor.numpy().tobytes() for name, tensor in weights.items()}, json.dumps(
        [result[name] for name in ("status", "metrics", "curves", "evidence")]
    )


class Interrupted(BaseException):
    """Stands for a kill: nothing catches it."""


@pytest.mark.parametrize("name", ["OwnTraining", "ByHand", "small", "spectral", "SpectralTraining"])
@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_resumed_trial_has_the_bits_of_an_uninterrupted_one(folder, tmp_path, monkeypatch, name, workers):
    given = replace(setup(name), data=data(workers=workers))
    run(given, tmp_path / "whole")

    def stop_in_the_second(values):
        if values["epoch"] == 1:
            raise Interrupted

    with pytest.raises(Interrupted):
        run(given, tmp_path / "parts", on_epoch=stop_in_the_second, checkpoint_seconds=0.0)
    assert (tmp_path / "parts" / "checkpoint.ckpt").exists()
    monkeypatch.setattr(TrainingRecorder, "save_checkpoint", lambda *_: None)
    run(given, tmp_path / "parts")
    assert bits(tmp_path / "parts") == bits(tmp_path / "whole")


def test_a_layer_that_a_module_replaces_keeps_its_curve(folder, tmp_path):
    given = replace(setup("NewHead"), recipe=replace(RECIPE, epochs=3))
    curves = run(given, tmp_path).curves
    heads = [name for name in curves if name.startswith("gradient_norm/network.0.")]
    assert all(np.isfinite(curves[name]).all() for name in heads)
    assert len(heads) > 1


def test_a_module_that_trains_itself_sees_our_batches_as_the_others_do(small, digits, folder, tmp_path):
    scale = replace(small.scale, resolution=32)
    mine = run(replace(small, network=network("OwnTraining"), scale=scale), tmp_path / "mine", digits)
    ours = run(replace(small, network=network("small"), scale=scale), tmp_path / "ours", digits)
    for name in ("order", "augmentation", "split", "steps"):
        assert mine.evidence[name] == ours.evidence[name]


def test_what_a_network_draws_does_not_move_what_its_data_draw(folder, tmp_path):
    plain, drawing = run(setup("small"), tmp_path / "plain"), run(setup("OwnTraining"), tmp_path / "drawing")
    assert plain.evidence["augmentation"] == drawing.evidence["augmentation"]


def test_the_number_of_workers_does_not_move_the_order(folder, tmp_path):
    alone = run(setup("small"), tmp_path / "alone")
    helped = run(replace(setup("small"), data=data(workers=2)), tmp_path / "helped")
    assert alone.evidence["order"] == helped.evidence["order"]


def test_a_part_that_its_module_keeps_frozen_stays_so_after_an_evaluation(folder):
    from lightning_modules.modules.metrics import evaluate_network

    module = build_initialized_network(network("OwnTraining"), SCALE, 0)
    assert isinstance(module, LightningModule)
    module.network[0].eval()
    evaluate_network(module, [(torch.zeros(2, 1, 8, 8), torch.tensor([0, 1]))], torch.device("cpu"))
    assert (module.training, module.network[0].training, module.network[1].training) == (True, False, True)


# -- data ----------------------------------------------------------------------------------------------------------


def stock(given, scale=SCALE, seeds=(0,)):
    return make_inventory(replace(setup("small"), data=given, scale=scale), seeds, Path("unused"), Path("unused"))


def test_foreign_data_are_prepared_once_and_read_to_the_same_digest(folder):
    import foreign_loaders

    before = foreign_loaders.Digits.prepared
    first, second = stock(data()), stock(data(), seeds=(3, 4))
    assert foreign_loaders.Digits.prepared == before + 2
    assert first.digest == second.digest
    assert first.split_sizes == {"train": 300, "validation": 100, "test": 300}


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("shuffled", r"Digits's test_dataloader shuffles, or changes its images at random: read twice"),
        ("none", r"Digits's test_dataloader is missing: a study trains, validates and tests"),
        ("two", r"Digits's test_dataloader returned a list; expected one loader, such as a DataLoader"),
        ("alone", r"test_dataloader yields \(float32 \(50, 1, 8, 8\)\); expected \(images, labels\)"),
        ("wide", r"gives images of the shape \(3, 8, 16\), but the protocol's scale says \(1, 8, 8\)"),
        ("classes", r"gives labels up to 11, so 12 classes, but the protocol says 10\. Give `--set scale\.classes=12`"),
        ("negative", r"gives labels from -1 to 9; expected those of 10 classes, from 0 to 9\. Fix the labels: they"),
        ("not finite", r"Digits's test_dataloader yields pixels that are NaN or infinite, in batch 0; expected finite"),
    ],
)
def test_data_that_cannot_be_used_are_told_why(folder, fault, said):
    with pytest.raises(UserError, match=said):
        stock(data(fault=fault))


def test_a_single_class_is_no_number_to_set(folder):
    with pytest.raises(UserError, match=r"Digits gives every image the label 0; expected those of 10 classes"):
        _require_class_labels(data(), np.zeros(3, np.int64), 10)


def test_the_pixels_that_are_trained_on_count(folder):
    assert stock(data()).digest != stock(data(noise=0.5)).digest


def test_training_data_that_no_seed_governs_are_refused(folder):
    with pytest.raises(
        UserError, match=r"Digits's train_dataloader is not determined by the seed: opened and read twice"
    ):
        stock(data(fault="unseeded"))


def test_a_test_part_that_depends_on_the_seed_is_refused_where_several_are_planned(folder):
    assert stock(data(fault="drawn")).split_sizes["test"] == 300
    with pytest.raises(
        UserError, match=r"other examples under seed 2 than under 0: its test split depends on the seed"
    ):
        stock(data(fault="drawn"), seeds=(0, 2))


def test_what_is_no_data_module_is_refused(folder):
    with pytest.raises(UserError, match="small returned a Sequential; expected a LightningDataModule"):
        stock(ForeignData(class_path="foreign_networks.small", init_args={"channels": 1, "classes": 10}))


def test_arms_may_not_be_given_other_data_than_the_baseline():
    with pytest.raises(NotASingleChange, match=r"data\.kind: Data -> ForeignData"):
        Ablation(
            question="?",
            baseline=Arm("ours", {"network": VGG_A}),
            arms=(Arm("mine", {"network": VGG_A, "data": data()}),),
            varies=("network",),
        )


SEEDED_FILE = """
import random

import numpy as np
import torch
from torch import nn

torch.manual_seed(42)
np.random.seed(42)
random.seed(42)


def net(classes):
    return nn.Linear(8, classes)
"""


def test_a_seed_at_the_top_of_a_file_does_not_decide_the_first_networks_weights(place):
    sys.path.insert(0, str(Path(place("probe_seeded.py", SEEDED_FILE)).parent))
    network = Custom(class_path="probe_seeded.net", init_args={"classes": 10})
    before = random.getstate()
    first, again, other = (build_initialized_network(network, SCALE, seed).weight for seed in (1, 1, 0))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    del sys.modules["probe_seeded"]
    assert torch.equal(build_initialized_network(network, SCALE, 0).weight, other)
    assert random.getstate() == before


def test_a_network_that_exits_is_told_as_one_that_fails(place):
    text = "import sys\n\n\ndef net():\n    sys.exit('not today')\n"
    sys.path.insert(0, str(Path(place("probe_exiting.py", text)).parent))
    with pytest.raises(UserError, match=r"failed at probe_exiting\.py, line 5: SystemExit: not today"):
        build_initialized_network(Custom(class_path="probe_exiting.net"), SCALE, 0)


# -- identity ------------------------------------------------------------------------------------------------------


def test_every_class_path_of_a_setup_is_found(folder):
    assert collect_class_paths([setup("small")]) == ("foreign_loaders.Digits", "foreign_networks.small")
    assert collect_class_paths([Setup(network=VGG_A)]) == ()


def test_without_foreign_parts_there_is_no_digest_of_the_users_code():
    assert user_code_digest(()) == ""
    study = declare("lrn", seeds=1)
    assert (
        study.conditions_digest("data")
        == study.conditions_digest("data", "")
        != study.conditions_digest("data", "code")
    )


def test_a_users_code_counts_wherever_it_stands_and_its_comments_do_not(place):
    place("probe_part.py", "WIDTH = 8\n")
    place("probe_used.py", "from probe_part import WIDTH\n\n\ndef net():\n    return WIDTH\n")

    def digest():
        return user_code_digest(("probe_used.net",))

    sys.path.insert(0, str(Path(place("probe_other.py", "x = 1\n")).parent))
    first = digest()
    place("probe_part.py", '"""What is told."""\nWIDTH = 8  # channels\n')
    place("probe_other.py", "x = 2\n")
    assert digest() == first != ""
    place("probe_part.py", "WIDTH = 16\n")
    assert digest() != first


DECLARED = """
from torch import nn

from ablations import Ablation, Arm, Helps
from lightning_modules.spec import Custom

def net(width):
    return nn.Linear(width, 10)

def arm(width):
    return {"network": Custom(class_path="probe_declared.net", init_args={"width": width})}

ABLATION = Ablation(
    question=__doc__,
    baseline=Arm("8", arm(8)),
    arms=(Arm("16", arm(16)),),
    varies=("network.init_args.width",),
    claims=(Helps(arm="16", over="8"),),
)
"""


@pytest.mark.parametrize(
    ("before", "after", "counts"),
    [
        ('(Helps(arm="16", over="8"),)', "()", False),
        ("Helps", "DoesNotHelp", False),
        ("question=__doc__", 'question="Do wide ones err less?", property_studied="parameters"', False),
        ("nn.Linear(width, 10)", "nn.Linear(width, 11)", True),
        # A function of the user's may change what the networks read.
        ("arm(16)", "arm(32)", True),
        ('(Helps(arm="16", over="8"),)', "my_claims(3)", True),
        ('(Helps(arm="16", over="8"),)', "(claim := Helps(arm='16', over='8'),)", True),
    ],
)
def test_what_an_ablation_declares_beside_its_networks_does_not_count_but_for_its_arms(place, before, after, counts):
    def digest(text):
        sys.path.insert(0, str(Path(place("probe_declared.py", text)).parent))
        return user_code_digest(("probe_declared.net",))

    assert before in DECLARED
    assert (digest(DECLARED) != digest(DECLARED.replace(before, after))) is counts


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("nn.Linear(width, 10)", "nn.Linear(width + len(ABLATION.claims), 10)"),
        ("nn.Linear(width, 10)", "nn.Linear(width + len(globals()['ABLATION'].claims), 10)"),
        ("ABLATION = ", "ABLATION = SAME = "),
    ],
)
def test_claims_count_where_the_ablation_is_used_in_its_own_file(place, before, after):
    def digest(text):
        sys.path.insert(0, str(Path(place("probe_declared.py", text)).parent))
        return user_code_digest(("probe_declared.net",))

    used = DECLARED.replace(before, after)
    assert digest(used) != digest(used.replace('(Helps(arm="16", over="8"),)', "()"))


def test_networks_imported_with_the_contract_count():
    """As those of a module in the folder of the ablations, which `ablate new --module --into ablations` writes."""
    text = DECLARED.replace("import Ablation, Arm, Helps", "import Ablation, Arm, Helps, my_networks")
    stripped = ast.unparse(_without_declarations(ast.parse(text)))
    assert "from ablations import my_networks" in stripped
    assert "Helps" not in stripped


def test_what_an_ablation_is_declared_with_is_none_of_the_users_code(place):
    """Else every new claim, and every new network of the catalogue, would make the user's trials outdated."""
    sys.path.insert(0, str(Path(place("probe_declared.py", DECLARED)).parent))
    assert _import_closure({"probe_declared"}) == {"probe_declared", "torch"}


@pytest.mark.parametrize("name", ["wave", "turtle", "code", "trace"])
def test_a_users_module_counts_though_one_of_pythons_has_its_name(place, name):
    def digests(text):
        folder = Path(place(f"{name}.py", text)).parent
        sys.path[:] = [str(folder), *(entry for entry in sys.path if entry != str(folder))]
        place("probe_importing.py", f"import {name}\n")
        importlib.invalidate_caches()
        return user_code_digest((f"{name}.Net",)), user_code_digest(("probe_importing.Net",))

    (first, imported_first), (second, imported_second) = digests("WIDTH = 1\n"), digests("WIDTH = 2\n")
    assert first != second
    assert imported_first != imported_second


def test_the_standard_library_does_not_count(place):
    sys.path.insert(0, str(Path(place("probe_plain.py", "")).parent))
    assert _import_closure({"wave", "sys", "os", "posixpath", "_socket", "winreg", "probe_plain"}) == {"probe_plain"}


def test_a_users_method_counts_unless_ipython_shows_objects_by_it(place):
    def digest(method):
        folder = Path(place("probe_shown.py", f"class Net:\n    width = 1\n{method}")).parent
        sys.path.insert(0, str(folder))
        return user_code_digest(("probe_shown.Net",))

    plain = digest("")
    assert digest("    def _repr_mimebundle_(self):\n        return {}\n") == plain
    assert digest("    def _repr_vector(self):\n        return 1\n") != plain


@pytest.mark.parametrize(
    "exports",
    [
        '__all__ = ["probe_star_part"]\n',
        '__all__ = [*map(str, ["probe_star_part"])]\n',
        '__all__ = ["other"]\n__all__ += ["probe_star_part"]\n',
        '__all__ = ["other"]\n__all__.append("probe_star_part")\n',
    ],
)
def test_submodules_behind_a_star_count(place, tmp_path, exports):
    (tmp_path / "probe_star").mkdir()
    sys.path.insert(0, str(tmp_path))
    place("probe_star/__init__.py", exports)
    place("probe_star_net.py", "from probe_star import *\n")

    def digest(width):
        place("probe_star/probe_star_part.py", f"WIDTH = {width}\n")
        return user_code_digest(("probe_star_net.Net",))

    assert digest(1) != digest(2)


def test_submodules_that_a_star_leaves_out_do_not_count(place, tmp_path):
    (tmp_path / "probe_less").mkdir()
    sys.path.insert(0, str(tmp_path))
    place("probe_less/__init__.py", "__all__ = ['one']\n")
    place("probe_less/one.py", "")
    place("probe_less/two.py", "")
    place("probe_less_net.py", "from probe_less import *\n")
    assert _import_closure({"probe_less_net"}) == {"probe_less_net", "probe_less", "probe_less.one"}


@pytest.mark.parametrize(
    "content", [b"\xef\xbb\xbfWIDTH = 1\n", "# -*- coding: latin-1 -*-\nNAME = 'é'\n".encode("latin-1")]
)
def test_the_digest_reads_files_in_the_encodings_that_python_reads(place, content):
    file = Path(place("probe_encoded.py", ""))
    sys.path.insert(0, str(file.parent))
    empty = user_code_digest(("probe_encoded.Net",))
    file.write_bytes(content)
    assert user_code_digest(("probe_encoded.Net",)) != empty


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"x = 1\ndef (\n", r"probe_wrong\.py, line 2: SyntaxError: invalid syntax"),
        (b"x = '\xe9'\n", r"probe_wrong\.py: SyntaxError: invalid or missing encoding declaration"),
        (b"\n\nx = '\xe9'\n", r"probe_wrong\.py is no Python source: 'utf-8' codec"),
    ],
)
def test_a_file_that_python_cannot_read_is_named(place, content, said):
    file = Path(place("probe_wrong.py", ""))
    sys.path.insert(0, str(file.parent))
    file.write_bytes(content)
    with pytest.raises(UserError, match=said):
        user_code_digest(("probe_wrong.Net",))


def test_of_an_installed_package_the_version_counts(monkeypatch):
    from studies.records import digests

    first, ours = user_code_digest(("torchvision.models.alexnet",)), code_digest()
    monkeypatch.setattr(digests, "_distribution_version", lambda root: f"{root} 99")
    assert user_code_digest(("torchvision.models.alexnet",)) != first
    assert code_digest() == ours


def test_relative_imports_and_packages_count(place, tmp_path):
    (tmp_path / "probe_package").mkdir()
    sys.path.insert(0, str(tmp_path))

    def digest(width, marker):
        place("probe_package/__init__.py", f"MARKER = {marker}\n")
        place("probe_package/widths.py", f"WIDTH = {width}\n")
        place(
            "probe_package/nets.py",
            textwrap.dedent("""
            from .widths import WIDTH
            def net(): return WIDTH
        """),
        )
        return user_code_digest(("probe_package.nets.net",))

    assert len({digest(8, 1), digest(16, 1), digest(8, 2)}) == 3


# -- files that change, and files of one name --------------------------------------------------------------------------

NEIGHBOUR = """
from torch import nn


def net(channels, classes, width=WIDTH, **ignored):
    return nn.Sequential(
        nn.Conv2d(channels, width, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes)
    )
"""

BESIDE_A = """
from ablations import Ablation, Arm
from lightning_modules.catalogue import VGG_A
from lightning_modules.spec import Custom

SCALE = {"channels": "$channels", "classes": "$classes"}
ABLATION = Ablation(
    question="Is mine better than A?",
    baseline=Arm("A", {"network": VGG_A}),
    arms=(Arm("mine", {"network": Custom(class_path="probe_nets.net", init_args=SCALE)}),),
    varies=("network",),
)
"""


def planted(folder, width):
    """An ablation with a network of that width in a file beside it; the path of its file."""
    folder.mkdir(exist_ok=True)
    (folder / "probe_nets.py").write_text(NEIGHBOUR.replace("WIDTH", str(width)))
    (folder / f"study_{folder.name}.py").write_text(BESIDE_A)
    return str(folder / f"study_{folder.name}.py")


def size_of_mine(file):
    return build_verified_networks(declare(file, seeds=1).setups())["mine"].properties["parameters"]


def prepared(name, runs):
    study = declare(name, seeds=1, overrides=TINY)
    return prepare_study(study, Settings.from_environment(runs), ONE, [].append)


def test_a_neighbor_of_the_same_name_in_another_folder_is_another_module(place, tmp_path):
    first, second = planted(tmp_path / "a", 8), planted(tmp_path / "b", 16)
    sizes = [size_of_mine(file) for file in (first, second, first)]
    assert sizes[0] == sizes[2] < sizes[1]
    assert sys.path[0] == str(tmp_path / "a")


def test_an_edit_of_a_neighbor_is_seen_within_one_process(place, tmp_path):
    before = size_of_mine(planted(tmp_path / "a", 8))
    assert size_of_mine(planted(tmp_path / "a", 128)) > before


def test_modules_from_elsewhere_are_not_imported_anew(place, tmp_path):
    kept = [sys.modules[name] for name in ("torch", "studies", "ablations", __name__)]
    ablations.load(planted(tmp_path / "a", 8))
    assert [sys.modules[name] for name in ("torch", "studies", "ablations", __name__)] == kept


def test_an_arm_without_foreign_parts_is_used_again_beside_one_with_them(place, tmp_path):
    ours, theirs = prepared("lrn", tmp_path / "runs"), prepared(planted(tmp_path / "a", 8), tmp_path / "runs")
    (first, *_), trials = ours.study.trials(), {trial.arm: trial for trial in theirs.study.trials()}
    our_store, their_store = TrialStore(ours), TrialStore(theirs)
    assert their_store.key(trials["A"]) == our_store.key(first)
    assert their_store.folder(trials["A"]) == our_store.folder(first)
    assert their_store.key(trials["mine"]).code == f"{our_store.key(first).code}+{theirs.user_code_digest}"


@pytest.mark.slow
def test_code_that_changes_while_a_study_runs_fails_its_trial_and_is_registered_and_trained_anew_next_time(
    place, tmp_path, one_ray
):
    file = planted(tmp_path / "a", 8)
    context = prepared(file, tmp_path / "runs")
    planted(tmp_path / "a", 128)
    before = run_study(context, quiet=True)
    assert {trial.arm: trial.state == "failed" for trial in before.trials} == {"A": False, "mine": True}
    said = before.find_trial("mine", 0).result.error
    assert "probe_nets.net: the code has changed since the study started" in said
    news = []
    after = studies.run(
        file, seeds=1, overrides=TINY, runs=tmp_path / "runs", resources=ONE, quiet=True, say=news.append
    )
    assert after.run_id != before.run_id
    sizes = [record.registration.properties["mine"]["parameters"] for record in (before, after)]
    assert sizes[1] > sizes[0]
    assert "1 of 2 trials to train; 1 reused from earlier trainings" in " ".join(news)
    assert after.find_trial("A", 0).reused_from == before.find_trial("A", 0).run_id


UNSIZED = """
import pytorch_lightning as lightning
import torch
from torch.utils.data import DataLoader, IterableDataset


class Stream(IterableDataset):
    def __iter__(self):
        yield from ((torch.zeros(1, 8, 8), label) for label in range(10))


class Unsized(lightning.LightningDataModule):
    def train_dataloader(self):
        return DataLoader(Stream(), 5)
"""


def test_a_training_loader_without_a_length_is_refused(place, tmp_path, monkeypatch):
    place("users_stream.py", UNSIZED)
    monkeypatch.syspath_prepend(tmp_path)
    stream = replace(setup("small"), data=ForeignData(class_path="users_stream.Unsized"))
    with pytest.raises(UserError, match=r"Unsized's train_dataloader has no length"):
        make_inventory(stream, (0,), tmp_path, tmp_path)
