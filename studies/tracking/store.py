"""The tracking store: one object per task over the same MLflow runs."""

from __future__ import annotations

from dataclasses import dataclass

from studies.settings import Settings
from studies.tracking.inspection import StoreInspector
from studies.tracking.reader import StudyReader
from studies.tracking.runs import MlflowRuns, connect_mlflow
from studies.tracking.searches import SearchRuns
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
