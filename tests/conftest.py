"""What several tests share: a small protocol's worth of trials, on real digits, in folders of their own."""

from __future__ import annotations

import gc
import logging
import shutil
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

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


def pytest_collection_finish() -> None:
    """Spare the garbage collector what stays: torch's and MLflow's modules, and the tests.

    It took a fifth of the suite's time: each of its full passes goes over a million objects.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)  # by default 700, 10, 10


def pytest_sessionfinish() -> None:
    """Let the interpreter clear what it loaded: torch's bindings report all else as leaks."""
    gc.unfreeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Of the fast tests, keep those of a file on one worker, so that no fixture of a file is made twice.

    Slow tests are spread one by one, since a file of them may take minutes. Groups are kept together in both.
    """
    if config.option.markexpr != "not slow" or config.option.dist != "loadgroup":
        return None
    from xdist.scheduler import LoadGroupScheduling

    class LoadGroupOrFile(LoadGroupScheduling):
        def _split_scope(self, nodeid: str) -> str:
            group = super()._split_scope(nodeid)
            return group if group != nodeid else nodeid.partition("::")[0]

    return LoadGroupOrFile(config, log)


@pytest.fixture(autouse=True)
def quiet_frameworks(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads the user's settings."""
    for name in ("ABLATE_RUNS", "ABLATE_DATA_ROOT", "ABLATE_STORAGE", "MLFLOW_TRACKING_URI", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)


@pytest.fixture(scope="session")
def one_migration(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Migrate the first database that this process makes, and copy it for the next: MLflow has 50 migrations."""
    database_utils: Any = import_module("mlflow.store.db.utils")
    migrate = database_utils._initialize_tables
    template = tmp_path_factory.mktemp("database") / "migrated.db"

    def copy_tables(engine: Any) -> None:
        if engine.dialect.name != "sqlite":
            migrate(engine)
        elif not template.exists():
            migrate(engine)
            engine.dispose()  # with it all is in the file
            shutil.copy(engine.url.database, template)
        else:
            shutil.copy(template, engine.url.database)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(database_utils, "_initialize_tables", copy_tables)
        yield


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
