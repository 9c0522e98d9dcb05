"""The tracking store: one object per task over the same MLflow runs."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from studies.settings import Settings
from studies.tracking.errors import STORE_ERRORS
from studies.tracking.inspection import StoreInspector
from studies.tracking.interface.views import StudyPages
from studies.tracking.reader import StudyReader
from studies.tracking.runs import MlflowRuns, connect_mlflow
from studies.tracking.searches import SearchRuns
from studies.tracking.study_index import StudyIndex
from studies.tracking.writer import StudyWriter


@dataclass(frozen=True)
class Store:
    """An open tracking store. A study's driver is the only writer of that study.

    Attributes:
        writer: logs studies and trials.
        reader: reads them back.
        searches: logs and reads hyperparameter searches.
        inspector: answers questions about the store's state.
    """

    runs: MlflowRuns
    writer: StudyWriter
    reader: StudyReader
    searches: SearchRuns
    inspector: StoreInspector

    def find_study_pages(self, server: str, study: str = "") -> StudyPages | None:
        """Pages of a study in MLflow's interface, and the view that they show, which earlier versions did not make.

        Args:
            server: address of MLflow's server.
            study: its name; empty for the study that was started last.

        Returns:
            ``None`` where the store holds no study at all.

        Raises:
            NotRecordedError: if there is no study of this name, with a list of those that exist.
        """
        index = StudyIndex(self.runs)
        run = index.choose_run(study, None)[0] if study else index.find_latest_run()
        if run is None:
            return None
        run_id, experiment_id = str(run.info.run_id), str(run.info.experiment_id)
        registration = self.reader.read_registration(run_id)
        if registration is not None:
            with suppress(*STORE_ERRORS):  # a database that cannot be written to is shown as it is
                self.writer.describe_experiment(run, registration)
        return StudyPages(server=server.rstrip("/"), experiment_id=experiment_id, run_id=run_id)


def open_store(settings: Settings, *, create: bool = True) -> Store:
    """Open a tracking store.

    Args:
        create: whether a local database that does not exist is created; otherwise it is an error.

    Raises:
        TrackingError: if the store does not answer, or does not exist.
    """
    runs = connect_mlflow(settings, create=create)
    return Store(
        runs=runs,
        writer=StudyWriter(runs),
        reader=StudyReader(runs),
        searches=SearchRuns(runs),
        inspector=StoreInspector(runs),
    )
