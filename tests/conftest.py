"""What several tests share: a small protocol's worth of trials, on real digits, in folders of their own."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from lightning_modules.data.datasets import prepare_dataset
from lightning_modules.data.types import InMemoryDataset
from lightning_modules.specs.catalogue import VGG_A
from lightning_modules.specs.data import Data
from lightning_modules.specs.recipe import Recipe
from lightning_modules.specs.scale import Scale
from lightning_modules.specs.setup import Setup

SMALL = Setup(
    network=VGG_A,
    scale=Scale(resolution=32, channels=1, classes=10, width=0.0625),
    recipe=Recipe(epochs=2, batch_size=64, learning_rate=0.02, warmup=0.25, clip_norm=1.0, augmentation="shift"),
    data=Data(source="digits", validation_fraction=0.2),
)


@pytest.fixture(autouse=True)
def quiet_frameworks(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads the user's settings."""
    for name in ("ABLATE_RUNS", "ABLATE_DATA_ROOT", "ABLATE_STORAGE", "MLFLOW_TRACKING_URI", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)


@pytest.fixture(scope="session")
def small() -> Setup:
    """A setup that trains in a second."""
    return SMALL


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> InMemoryDataset:
    """scikit-learn's digits at 32 pixels."""
    return prepare_dataset(SMALL.data, SMALL.scale, Path("unused"), tmp_path_factory.mktemp("cache"))


@pytest.fixture
def tiny_recipe(small: Setup) -> Setup:
    """The small setup with a single epoch."""
    return replace(small, recipe=replace(small.recipe, epochs=1))
