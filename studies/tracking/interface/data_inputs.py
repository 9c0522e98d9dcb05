"""The data of a run as MLflow's data set inputs: one for training, validation and test each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from mlflow.entities import Dataset, DatasetInput, InputTag

from lightning_modules.specs.data import ForeignData
from lightning_modules.specs.setup import Setup
from studies.records.registration import Registration

SPLITS = ("train", "validation", "test")
CONTEXT_TAG = "mlflow.data.context"  # MLflow's own: what a run used a data set for
MAX_DIGEST_LENGTH = 36  # MLflow's limit
FOLDER_SOURCES = ("cifar10", "cifar100", "folder")
LOADERS = {"digits": "sklearn.datasets.load_digits"}  # of sources that are no folder; else the user's data module
IMAGE_DIMENSIONS = 3  # channels, height, width


def study_inputs(registration: Registration, location: str) -> list[DatasetInput]:
    """Data of a study, with the numbers of examples.

    Args:
        location: folder or URI of image data.
    """
    data, held = registration.data, registration.held
    profiles = {split: {"examples": data[split], "classes": data["classes"]} for split in SPLITS if split in data}
    shape = [held[path] for path in ("scale.channels", "scale.resolution", "scale.resolution") if path in held]
    return _make_inputs(str(data["name"]), str(data.get("digest", "unknown")), location, profiles, shape)


def trial_inputs(setup: Setup, digest: str, location: str) -> list[DatasetInput]:
    """Data of a trial.

    Args:
        digest: of the data's content.
        location: folder or URI of image data.
    """
    name = setup.data.class_path if isinstance(setup.data, ForeignData) else setup.data.source
    return _make_inputs(name, digest, location, {}, list(setup.scale.image_shape))


def input_name(name: str, split: str) -> str:
    """Name of a data set's split; MLflow takes a data set once per run, whatever it was used for."""
    return f"{name}/{split}"


def _make_inputs(
    name: str, digest: str, location: str, profiles: Mapping[str, Mapping[str, object]], shape: Sequence[object]
) -> list[DatasetInput]:
    source_type, source = _describe_source(name, location)
    inputs = []
    for split in SPLITS:
        dataset = Dataset(
            name=input_name(name, split),
            digest=digest[:MAX_DIGEST_LENGTH],
            source_type=source_type,
            source=json.dumps(source),
            schema=_make_schema(shape) if len(shape) == IMAGE_DIMENSIONS else None,
            profile=json.dumps(profiles[split]) if split in profiles else None,
        )
        inputs.append(DatasetInput(dataset, [InputTag(CONTEXT_TAG, split)]))
    return inputs


def _make_schema(shape: Sequence[object]) -> str:
    """Images of a shape, and their classes, as MLflow describes tensors."""
    images = {"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, *shape]}}
    labels = {"type": "tensor", "tensor-spec": {"dtype": "int64", "shape": [-1]}}
    return json.dumps({"mlflow_tensorspec": {"features": json.dumps([images]), "targets": json.dumps([labels])}})


def _describe_source(name: str, location: str) -> tuple[str, dict[str, object]]:
    """Type and address of a source, in the forms of MLflow's own: code that makes the examples, or where they lie."""
    if name in FOLDER_SOURCES:
        return "local", {"uri": location}
    return "code", {"tags": {"mlflow.source.type": "LOCAL", "mlflow.source.name": LOADERS.get(name, name)}}
