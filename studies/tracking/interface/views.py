"""Addresses of a study in MLflow's interface, and the view of its trials there."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

# MLflow's own tags of an experiment. A shared view is opened by its key, and holds columns, filter and grouping as the
# interface stores them: `tests/studies/tracking/interface/test_views.py` opens one.
DESCRIPTION_TAG = "mlflow.note.content"
VIEW_TAG_PREFIX = "mlflow.sharedViewState."
TRAINING_VIEW = "workflowType=machine_learning"  # without it MLflow opens its pages for language models
KEY_LENGTH = 12  # of 32 hexadecimal digits of a run's id
# MLflow adds the study's own run to those of its trials; what is found stands on that run's page.
CHARTS_FILTER = "^(train|validation|test)_(error|loss)$"
VIEW_COLUMNS = (
    "metrics.`test_error`",
    "metrics.`validation_error`",
    "metrics.`train_error`",
    "metrics.`train_seconds`",
    "tags.`arm`",
    "tags.`seed`",
)


@dataclass(frozen=True, kw_only=True)
class StudyPages:
    """Pages of one study.

    Attributes:
        server: address of MLflow's server, without a final slash.
        run_id: of the study's run.
    """

    server: str
    experiment_id: str
    run_id: str

    @property
    def trials(self) -> str:
        """Address of the trials, grouped by arm, with their mean test errors."""
        return f"{self._runs}?{TRAINING_VIEW}&viewStateShareKey={view_key(self.run_id)}"

    @property
    def charts(self) -> str:
        """Address of the curves: of each metric, the arms' means."""
        return f"{self.trials}&compareRunsMode=CHART"

    @property
    def study(self) -> str:
        """Address of the study's own run: what it found."""
        return f"{self._runs}/{self.run_id}?{TRAINING_VIEW}"

    @property
    def _runs(self) -> str:
        return f"{self.server}/#/experiments/{self.experiment_id}/runs"


def view_key(run_id: str) -> str:
    """Key of the view of a study's trials."""
    return run_id[:KEY_LENGTH]


def view_tags(run_id: str, *, is_tuned: bool) -> dict[str, str]:
    """Tags of an experiment by which MLflow shows the trials of a study grouped by arm.

    Args:
        is_tuned: whether the arms were trained under recipes of their own as well, which are groups of their own.
    """
    groups = [{"groupByData": "arm", "mode": "tag"}]
    if is_tuned:
        groups.append({"groupByData": "recipe", "mode": "tag"})
    view: dict[str, Any] = {
        "searchFilter": f"tags.`mlflow.parentRunId` = '{run_id}' AND tags.kind = 'fit'",
        "selectedColumns": list(VIEW_COLUMNS),
        "groupBy": {"aggregateFunction": "average", "groupByKeys": groups},
        "runsHiddenMode": "SHOW_ALL",
        "chartsSearchFilter": CHARTS_FILTER,
    }
    return {f"{VIEW_TAG_PREFIX}{view_key(run_id)}": json.dumps(view)}


def front_page(server: str) -> str:
    """Address of the list of experiments."""
    return f"{server}/#/experiments?{TRAINING_VIEW}"
