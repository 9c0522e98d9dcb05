"""What MLflow shows of a trial beside its values: a description in words, and its network in counts and layers."""

from __future__ import annotations

from collections.abc import Mapping

from ablations import PROPERTY_LABELS, summarize_differences
from studies.design.trial import Trial
from studies.records.registration import Registration

MODEL_SUMMARY_FILE = "model_summary.txt"  # the name that MLflow's own logging of Lightning trainings gives it
MAX_LISTED_CHANGES = 12
METRICS_NOTE = (
    "Errors are in percent, losses in nats per example. `train_error` and `train_loss` are those seen while training, "
    "under augmentation; the `final_` ones are of the trained network in evaluation mode."
)


def describe_trial(trial: Trial, registration: Registration) -> str:
    """Describe a trial as Markdown: its arm, what that changes, and its network."""
    # What is changed comes first: MLflow folds all but the first lines of a description.
    paragraphs = [f"**{trial.arm}**, seed {trial.seed}{_describe_changes(trial.arm, registration)}"]
    properties = network_properties(trial, registration)
    if properties:
        paragraphs.append(f"Network: {', '.join(_describe_counts(properties))}.")
    study = f"`{registration.study}` under the protocol `{registration.protocol}`"
    paragraphs.append(f"Ablation {study}: {registration.question.strip()}")
    return "\n\n".join([*paragraphs, METRICS_NOTE]) + "\n"


def _describe_changes(arm: str, registration: Registration) -> str:
    """End the sentence that names an arm by what it changes from the baseline."""
    if arm == registration.baseline:
        return ": the baseline, with which the other arms are compared."
    changes = summarize_differences(registration.changes.get(arm, ()))
    if not changes:
        return "."
    if len(changes) == 1:
        return f": `{changes[0]}`, compared with the baseline, {registration.baseline}."
    lines = [f"- `{change}`" for change in changes[:MAX_LISTED_CHANGES]]
    if len(changes) > MAX_LISTED_CHANGES:
        lines.append(f"- and {len(changes) - MAX_LISTED_CHANGES} more: see the parameters")
    return f", changes from the baseline, {registration.baseline}:\n\n" + "\n".join(lines)


def network_properties(trial: Trial, registration: Registration) -> dict[str, int]:
    """What was measured on the network of a trial's arm: ``parameters``, ``multiply_adds`` and so on."""
    measured = registration.properties.get(trial.arm, {})
    return {name: measured[name] for name in PROPERTY_LABELS if name in measured}


def summarize_model(trial: Trial, registration: Registration) -> str:
    """List the layers of a trial's network, one a line, and its counts; empty where they are not registered."""
    layers = registration.layers.get(trial.arm, ())
    if not layers:
        return ""
    width = max(len(path) for path, _ in layers)
    lines = [f"{path:{width}}  {description}" for path, description in layers]
    counts = _describe_counts(network_properties(trial, registration))
    return "\n".join([*lines, "", *counts]) + "\n"


def _describe_counts(properties: Mapping[str, int]) -> list[str]:
    counts = []
    for name, label in PROPERTY_LABELS.items():
        if name in properties:
            value = properties[name]
            counts.append(f"a {label} of {value} pixels" if name == "receptive_field" else f"{value:,} {label}")
    return counts
