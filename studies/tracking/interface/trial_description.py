"""What MLflow shows of a trial beside its values: a description in words, and its network in counts and layers."""

from __future__ import annotations

from ablations import PROPERTY_LABELS, Property, summarize_differences
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
    study = f"`{registration.study}` under the protocol `{registration.protocol}`"
    paragraphs = [f"**{trial.arm}**, seed {trial.seed}, of the ablation {study}: {registration.question.strip()}"]
    if trial.arm == registration.baseline:
        paragraphs.append("The baseline, with which the other arms are compared.")
    elif trial.arm in registration.changes:
        changes = [f"- `{change}`" for change in summarize_differences(registration.changes[trial.arm])]
        if len(changes) > MAX_LISTED_CHANGES:
            num_hidden = len(changes) - MAX_LISTED_CHANGES
            changes = [*changes[:MAX_LISTED_CHANGES], f"- and {num_hidden} more: see the parameters"]
        paragraphs.append(f"Changes from the baseline, {registration.baseline}:\n\n" + "\n".join(changes))
    properties = network_properties(trial, registration)
    if properties:
        counts = [f"{value:,} {PROPERTY_LABELS[name]}" for name, value in properties.items()]
        paragraphs.append(f"Network: {', '.join(counts)}.")
    return "\n\n".join([*paragraphs, METRICS_NOTE]) + "\n"


def network_properties(trial: Trial, registration: Registration) -> dict[Property, int]:
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
    counts = [f"{value:,} {PROPERTY_LABELS[name]}" for name, value in network_properties(trial, registration).items()]
    return "\n".join([*lines, "", *counts]) + "\n"
