"""A made-up study, recorded without training, for what MLflow's interface shows of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow.entities import Run

from studies.settings import Settings
from studies.tracking.store import Store, open_store
from tests.reports import golden


@dataclass(frozen=True)
class WrittenStudy:
    """A recorded study: where it lies, and the run that it got."""

    runs: Path
    store: Store
    run_id: str

    @property
    def run(self) -> Run:
        """The study's run, as the store has it now."""
        return self.store.runs.client.get_run(self.run_id)

    def trial(self, arm: str, seed: int) -> Run:
        """The run of a trial."""
        tags = {"kind": "fit", "arm": arm, "seed": str(seed)}
        (run,) = self.store.runs.search([self.run.info.experiment_id], tags)
        return run


@pytest.fixture(scope="package")
def written(tmp_path_factory: pytest.TempPathFactory) -> WrittenStudy:
    """The golden study `healthy` in a store of its own."""
    runs = tmp_path_factory.mktemp("written")
    store = open_store(Settings.from_environment(runs))
    return WrittenStudy(runs, store, golden.put(golden.read("healthy"), store))
