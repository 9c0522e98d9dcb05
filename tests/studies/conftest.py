"""One small study, run once for all tests that only look: real Ray, real MLflow on SQLite, real digits."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import studies
from studies.execution.processes import fork_server
from studies.execution.resources import Resources
from studies.records.study_record import StudyRecord
from studies.settings import Settings
from studies.tracking.store import Store, open_store

SECRET = "canary-5f1d"
ONE = Resources(max_concurrent=1)  # a second worker takes longer to start than so small a study
SHORT = {"recipe.epochs": 2, "recipe.batch_size": 64, "scale.width": 0.0625}


@dataclass(frozen=True)
class Recorded:
    """A study that has been run: where, and what came back."""

    runs: Path
    record: StudyRecord
    news: tuple[str, ...]

    @property
    def store(self) -> Store:
        """Its store, opened again."""
        return open_store(Settings.from_environment(self.runs))


@pytest.fixture(scope="session", autouse=True)
def one_server_of_processes() -> Iterator[None]:
    """What this process runs by itself it forks from one server, which loads once."""
    with fork_server.prestart_fork_server():
        yield


@pytest.fixture(scope="session", autouse=True)
def one_migration_for_all(one_migration: None) -> None:
    """Every test here may make a tracking store."""


@pytest.fixture(scope="session")
def one_ray() -> Iterator[None]:
    """Ray, started once for all the studies that run in this process: most of such a study's time is its start."""
    from studies.execution.cluster.ray_cluster import ray_session

    with ray_session():
        yield


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory, one_ray: None) -> Recorded:
    """`depth`, two seeds, two epochs."""
    runs = tmp_path_factory.mktemp("study")
    news: list[str] = []
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("ABLATE_TEST_SECRET", SECRET)  # see test_safety
        record = studies.run("depth", seeds=(0, 1), overrides=SHORT, runs=runs, quiet=True, say=news.append)
    return Recorded(runs, record, tuple(news))


@pytest.fixture
def copied(recorded: Recorded, tmp_path: Path) -> Recorded:
    """A copy of the recorded study that a test may damage: nothing in it leads back to the original."""
    runs = tmp_path / "runs"
    shutil.copytree(recorded.runs, runs)
    return Recorded(runs, recorded.record, ())
