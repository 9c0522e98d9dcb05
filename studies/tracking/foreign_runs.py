"""Runs of an MLflow experiment that another program logged."""

from __future__ import annotations

from studies.tracking.errors import NotRecordedError, report_unreachable_store
from studies.tracking.runs import MlflowRuns

PARENT_TAG = "mlflow.parentRunId"
MAX_LISTED_EXPERIMENTS = 20


def read_foreign_runs(runs: MlflowRuns, experiment: str) -> list[dict[str, object]]:
    """Read the runs of an experiment: tags, parameters and last metrics of each run, by their names.

    A run that has not finished keeps its row: it is a result without a value where it has no metric.

    Raises:
        NotRecordedError: there is no such experiment, or it has no runs.
        TrackingError: the store does not answer.
    """
    with report_unreachable_store(runs.settings.tracking_uri):
        experiment_id = runs.find_experiment(experiment)
        if experiment_id is None:
            names = sorted(item.name for item in runs.client.search_experiments(max_results=MAX_LISTED_EXPERIMENTS))
            raise NotRecordedError(f"MLflow has no experiment {experiment!r}; it has {', '.join(names)}.")
        found = runs.search([experiment_id])
    # A run with runs below it collects them: it trained no network.
    parents = {run.data.tags.get(PARENT_TAG, "") for run in found}
    rows: list[dict[str, object]] = []
    for run in found:
        if run.info.run_id not in parents:
            # A name that is both a metric and a parameter means the metric; MLflow's own tags are no results.
            tags = {name: value for name, value in run.data.tags.items() if not name.startswith("mlflow.")}
            rows.append({**tags, **run.data.params, **run.data.metrics})
    if not rows:
        raise NotRecordedError(f"The experiment {experiment!r} has no runs.")
    return rows
