"""A trained network as a model of MLflow, in the flavour of PyTorch."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Sequence
from importlib import metadata

import mlflow
import numpy as np
import torch
from mlflow.entities import LoggedModelOutput, Metric, Run
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec
from torch import nn

from studies.scratch import temporary_folder
from studies.tracking.interface.data_inputs import CONTEXT_TAG

OWN_DISTRIBUTION = "ablation-studies"
REQUIRED_PACKAGES = ("torch", "numpy", OWN_DISTRIBUTION)  # to load a network: its classes are this package's


def log_model(client: mlflow.MlflowClient, run: Run, network: nn.Module, image_shape: Sequence[int]) -> None:
    """Log a trained network as a model of a trial's run, with the final metrics on the data that they are of.

    Args:
        network: on the CPU, with its final weights.
        image_shape: ``(channels, height, width)``.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as it loads, it warns of the type hints of its own classes
        import mlflow.pyfunc
        import mlflow.pytorch

    # It warns of pickled models, each time: these are the user's own, and a custom network may not export otherwise.
    logging.getLogger("mlflow.pytorch").setLevel(logging.ERROR)
    run_id, tags = str(run.info.run_id), run.data.tags
    step = max((metric.step for metric in run.data._metric_objs), default=0)
    logged = client.create_logged_model(
        experiment_id=run.info.experiment_id,
        # MLflow takes none of these in the name of a model.
        name=re.sub(r"[/:.%\"'\s,]+", "-", run.info.run_name).strip("-"),
        source_run_id=run_id,
        tags={name: tags[name] for name in ("study", "protocol", "arm", "seed") if name in tags},
        params={name: run.data.params[name] for name in ("arm", "seed", "recipe.epochs") if name in run.data.params},
        model_type="classifier",
    )
    with temporary_folder() as folder:
        path = folder / "model"
        mlflow.pytorch.save_model(
            network,
            str(path),
            mlflow_model=Model(run_id=run_id, model_id=logged.model_id),
            signature=_signature(network, image_shape),
            # Given, as MLflow would import the model in another process to find them out.
            pip_requirements=list(map(_requirement, REQUIRED_PACKAGES)),
            serialization_format="pickle",
        )
        client.log_model_artifacts(logged.model_id, str(path))
    client.finalize_logged_model(logged.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=step)])
    client.log_batch(run_id, metrics=_linked_metrics(run, logged.model_id))


def _signature(network: nn.Module, image_shape: Sequence[int]) -> ModelSignature:
    network.eval()
    with torch.no_grad():
        logits = network(torch.zeros(1, *image_shape))
    images = TensorSpec(np.dtype(np.float32), (-1, *image_shape), name=None)
    outputs = TensorSpec(np.dtype(np.float32), (-1, *logits.shape[1:]), name=None)
    return ModelSignature(inputs=Schema([images]), outputs=Schema([outputs]))


def _requirement(distribution: str) -> str:
    try:
        return f"{distribution}=={metadata.version(distribution)}"
    except metadata.PackageNotFoundError:  # run from a checkout that is not installed
        return distribution


def _linked_metrics(run: Run, model_id: str) -> list[Metric]:
    """Final metrics of each split, linked to the model and to the run's data set of that split."""
    datasets = {}
    for data_input in run.inputs.dataset_inputs if run.inputs else ():
        for tag in data_input.tags:
            if tag.key == CONTEXT_TAG:
                datasets[tag.value] = data_input.dataset
    metrics = []
    for metric in run.data._metric_objs:
        split, _, quantity = metric.key.removeprefix("final_").partition("_")
        is_final = metric.key.startswith(("final_", "test_"))
        if is_final and quantity and split in datasets:
            metrics.append(
                Metric(
                    key=metric.key,
                    value=metric.value,
                    timestamp=metric.timestamp,
                    step=metric.step,
                    model_id=model_id,
                    dataset_name=datasets[split].name,
                    dataset_digest=datasets[split].digest,
                    run_id=str(run.info.run_id),
                )
            )
    return metrics
