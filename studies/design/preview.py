"""Preview a study: what it would train, change, hold and cost, before anything is spent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ablations import (
    PROPERTY_LABELS,
    ComponentDesign,
    Property,
    PropertyContrast,
    compare_properties,
    compare_setups,
    confounding_forced_paths,
    summarize_differences,
)
from lightning_modules.data.inventory import count_training_examples
from lightning_modules.specs.errors import UserError
from lightning_modules.specs.notebook_html import render_line, render_list, render_table, render_view
from lightning_modules.specs.setup import Setup
from lightning_modules.specs.values import Leaf
from studies.design.batch_proof import describe_failing_batch, describe_single_image_failure, is_self_training
from studies.design.declare import changed_and_held_settings, declare
from studies.design.estimate import estimate_study_seconds, estimate_trial_seconds
from studies.design.instantiation import InstantiatedNetwork, compare_modules
from studies.design.study import Study
from studies.design.tuning import TuningBudget
from studies.design.verification import build_verified_networks
from studies.hardware import count_cores
from studies.protocols import DEFAULT_PROTOCOL
from studies.settings import Settings


@dataclass(frozen=True, kw_only=True)
class ArmPreview:
    """An arm of a study: its differences from the baseline, and what one of its trials takes.

    Attributes:
        changes: changed settings, in words.
        properties: measured properties of the instantiated network, by name.
        num_different_modules: modules in which the instantiated network differs from the baseline's.
        contrast: measured properties that changed from the baseline, and forced changes.
        unknowns: sentences on what cannot be known of the network or its data.
        notes: sentences on what a user should know of the network.
        failure: how a timed training step fails; empty where it does not.
        seconds: estimated time of one trial on one core; ``None`` where it cannot be estimated.
    """

    changes: tuple[str, ...]
    properties: Mapping[str, int]
    num_different_modules: int
    contrast: PropertyContrast
    unknowns: tuple[str, ...]
    notes: tuple[str, ...]
    failure: str
    seconds: float | None


@dataclass(frozen=True, kw_only=True)
class TuningPreview:
    """A study's tuning budget.

    Attributes:
        budget: the budget in a sentence.
        epochs: per arm, the epochs that all its candidates train together.
        seeds: seeds of the candidates' trials.
    """

    budget: str
    epochs: Mapping[str, int]
    seeds: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class DesignPreview:
    """A generated design, component by component.

    Attributes:
        changes: per component, what differs between the arm without it and the arm with it, in words.
    """

    design: ComponentDesign
    changes: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class StudyPreview:
    """A study before its first trial.

    Attributes:
        source_arms: per arm with a warm start, the name of its source.
        evaluated_arms: per arm that only evaluates, the names of the evaluated networks.
        held: settings that are equal in all arms, by path.
        claims: the claims as sentences.
        num_trials: trials under the shared recipe, dependencies included.
        num_workers: trials that this machine runs at the same time, one per core.
        seconds: estimated time from the command to the report; ``None`` where a trial's time cannot be estimated.
        detectable_difference: smallest true difference between two arms found at 80 % power, in standard deviations of
            a paired difference; ``None`` where it is not computed.
        design: of a generated ablation.
    """

    study: str
    question: str
    protocol: str
    baseline: str
    varies: tuple[str, ...]
    forced: Mapping[str, str]
    property_studied: Property | None
    source_arms: Mapping[str, str]
    evaluated_arms: Mapping[str, tuple[str, ...]]
    arms: Mapping[str, ArmPreview]
    held: Mapping[str, Leaf]
    claims: tuple[str, ...]
    seeds: tuple[int, ...]
    looks: tuple[int, ...]
    tuning: TuningPreview | None
    num_trials: int
    num_workers: int
    seconds: float | None
    detectable_difference: float | None = None
    design: DesignPreview | None = None

    def __repr__(self) -> str:
        duration = "time unknown" if self.seconds is None else f"about {self.seconds / 60:.1f} minutes"
        return f"<StudyPreview {self.study} under {self.protocol}: {self.num_trials} trials, {duration}>"

    def _repr_html_(self) -> str:
        properties = [name for name in PROPERTY_LABELS if any(name in arm.properties for arm in self.arms.values())]
        header = ("arm", *(PROPERTY_LABELS[name] for name in properties), "seconds per trial")
        rows = []
        for name, arm in self.arms.items():
            counts = [f"{arm.properties[key]:,}" if key in arm.properties else "unknown" for key in properties]
            seconds = "unknown" if arm.seconds is None else f"{arm.seconds:.0f}"
            rows.append((name, *counts, seconds))
        notes = []
        for name, arm in self.arms.items():
            sentences = (*arm.unknowns, *arm.notes, *((f"fails: {arm.failure}",) if arm.failure else ()))
            notes += [f"{name}: {sentence}" for sentence in sentences]
        duration = "unknown" if self.seconds is None else f"about {self.seconds / 60:.1f} minutes"
        time_line = (
            f"{self.num_trials} trials, seeds {list(self.seeds)}; time {duration} on {self.num_workers} CPU cores."
        )
        return render_view(
            f"{self.study} under {self.protocol}: {self.question}",
            render_table(header, rows, numbers=range(1, len(properties) + 2)),
            render_list(f"{name} changes {'; '.join(arm.changes)}" for name, arm in self.arms.items() if arm.changes),
            render_line(time_line),
            render_list(notes),
            render_line("Claims:" if self.claims else ""),
            render_list(self.claims),
        )


def show(
    name: str,
    protocol: str = DEFAULT_PROTOCOL,
    *,
    seeds: int | Sequence[int] | None = None,
    overrides: Mapping[str, Leaf] | None = None,
    tuning: TuningBudget | int | None = None,
    looks: Sequence[int] = (),
    data_root: str | Path | None = None,
) -> StudyPreview:
    """Preview a study: networks, changes, claims, trials and estimated time. Nothing is trained.

    It takes seconds: the networks of all arms are built and compared, and a training step of each is timed.

    Args:
        name, protocol, seeds, overrides, tuning, looks: see :func:`studies.declare`.
        data_root: folder of the image data; by default that of ``ABLATE_DATA_ROOT``.

    Raises:
        UserError: see :func:`studies.declare`; or where the networks are not what the arms declare.
    """
    study = declare(name, protocol, seeds, overrides, tuning, looks)
    return preview_study(study, Settings.from_environment(data_root=data_root).data_root)


def preview_study(
    study: Study, data_root: Path | None = None, log: Callable[[str], None] | None = None
) -> StudyPreview:
    """Build a study's networks, check its contract, and estimate its time.

    Args:
        data_root: folder of image data, whose training images are counted where it is there.
        log: receives what is being done, for whoever waits.

    Raises:
        NotASingleChange, InvalidAblation: where the instantiated networks are not what the arms declare.
    """
    setups = study.setups()
    # Before networks of full size are timed: it refuses broken contracts.
    networks = build_verified_networks(setups, study.tuning)
    seconds_by_arm: dict[str, float | None] = {}
    failures: dict[str, str] = {}
    for number, (arm, setup) in enumerate(setups.items(), start=1):
        if log:
            log(f"timing {arm} ({number} of {len(setups)})")
        seconds_by_arm[arm], failures[arm] = _estimate_or_explain(setup)
        batch_failure, batch_note = _describe_batches(setup, data_root)
        failures[arm] = failures[arm] or batch_failure
        if batch_note:
            networks[arm] = replace(networks[arm], notes=(*networks[arm].notes, batch_note))
    num_workers = count_cores()  # one trial per core, as ``ablate run`` does by default without a GPU
    total_seconds = _total_trial_seconds(study, setups, seconds_by_arm)
    _, held = changed_and_held_settings(setups)
    return StudyPreview(
        study=study.name,
        question=study.ablation.question.strip(),
        protocol=study.protocol.name,
        baseline=next(iter(setups)),
        varies=study.ablation.varies,
        forced=study.ablation.forced,
        property_studied=study.ablation.property_studied,
        source_arms=study.source_arms,
        evaluated_arms=study.evaluated_arms,
        arms=_preview_arms(study, setups, networks, seconds_by_arm, failures),
        held=held,
        claims=tuple(claim.sentence for claim in study.ablation.claims),
        seeds=study.seeds,
        looks=study.looks,
        tuning=_preview_tuning(study, setups),
        num_trials=len(study.trials()),
        num_workers=num_workers,
        seconds=None if total_seconds is None else estimate_study_seconds(total_seconds, num_workers),
        design=_preview_design(study.ablation.design, setups),
    )


def preview_to_json(preview: StudyPreview) -> dict[str, Any]:
    """Return plain JSON data of a preview, as ``ablate show --json`` prints it."""
    # Scripts read these keys: they keep their names when fields are renamed.
    return {
        "study": preview.study,
        "question": preview.question,
        "protocol": preview.protocol,
        "baseline": preview.baseline,
        "varies": list(preview.varies),
        "forced": dict(preview.forced),
        "property_studied": preview.property_studied,
        "donors": dict(preview.source_arms),
        "tested": {arm: list(names) for arm, names in preview.evaluated_arms.items()},
        "arms": {arm: _arm_to_json(arm_preview) for arm, arm_preview in preview.arms.items()},
        "held": dict(preview.held),
        "claims": list(preview.claims),
        "seeds": list(preview.seeds),
        "looks": list(preview.looks),
        "tuning": _tuning_preview_to_json(preview.tuning),
        "trials": preview.num_trials,
        "workers": preview.num_workers,
        "minutes": None if preview.seconds is None else preview.seconds / 60,
        "detectable": preview.detectable_difference,
        "design": _design_to_json(preview.design),
    }


def _arm_to_json(arm: ArmPreview) -> dict[str, Any]:
    return {
        "changes": list(arm.changes),
        "properties": dict(arm.properties),
        "parts": arm.num_different_modules,
        "contrast": {
            "clean": arm.contrast.is_unconfounded,
            "moved": [asdict(change) for change in arm.contrast.changed],
            "unknown": list(arm.contrast.unmeasured),
            "forced": list(arm.contrast.forced),
        },
        "unknown": list(arm.unknowns),
        "notes": list(arm.notes),
        "failure": arm.failure,
        "seconds": arm.seconds,
    }


def _design_to_json(preview: DesignPreview | None) -> dict[str, Any] | None:
    if preview is None:
        return None
    components = []
    for contrast in preview.design.contrasts:
        components.append({**asdict(contrast), "changes": list(preview.changes[contrast.component])})
    return {"kind": preview.design.kind, "endpoint": preview.design.endpoint, "components": components}


def _tuning_preview_to_json(tuning: TuningPreview | None) -> dict[str, Any] | None:
    if tuning is None:
        return None
    return {"budget": tuning.budget, "epochs": dict(tuning.epochs), "seeds": list(tuning.seeds)}


def _preview_design(design: ComponentDesign | None, setups: Mapping[str, Setup]) -> DesignPreview | None:
    if design is None:
        return None
    changes = {}
    for contrast in design.contrasts:
        differences = compare_setups(setups[contrast.over], setups[contrast.arm])
        changes[contrast.component] = summarize_differences(differences)
    return DesignPreview(design=design, changes=changes)


def _preview_arms(
    study: Study,
    setups: Mapping[str, Setup],
    networks: Mapping[str, InstantiatedNetwork],
    seconds_by_arm: Mapping[str, float | None],
    failures: Mapping[str, str],
) -> dict[str, ArmPreview]:
    """Compare every arm's settings and instantiated network with the baseline's."""
    changes, _ = changed_and_held_settings(setups)
    baseline = next(iter(networks.values()))
    previews = {}
    for arm, network in networks.items():
        differences = changes.get(arm, ())  # the baseline has none
        contrast = compare_properties(
            baseline.properties,
            network.properties,
            study.ablation.property_studied,
            confounding_forced_paths(differences, study.ablation.forced),
        )
        previews[arm] = ArmPreview(
            changes=tuple(summarize_differences(differences)),
            properties=network.properties,
            num_different_modules=len(compare_modules(baseline, network)),
            contrast=contrast,
            unknowns=network.unknowns,
            notes=network.notes,
            failure=failures[arm],
            seconds=seconds_by_arm[arm],
        )
    return previews


def _estimate_or_explain(setup: Setup) -> tuple[float | None, str]:
    """Estimate the time of a trial; where its timed step fails, say why instead."""
    try:
        return estimate_trial_seconds(setup), ""
    except UserError as error:
        return None, str(error)


def _describe_batches(setup: Setup, data_root: Path | None) -> tuple[str, str]:
    """Describe how a size of batch of an epoch fails, and, where the sizes are not known, how a single image does."""
    num_examples = count_training_examples(setup, data_root or Path())
    if num_examples is not None:
        failure = describe_failing_batch(setup, num_examples)
        return ("", failure) if failure and is_self_training(setup) else (failure, "")
    failure = describe_single_image_failure(setup)
    if not failure:
        return "", ""
    return "", (
        f"A last batch of a single image is possible, and {failure} How many images there are is not known here; "
        "`ablate run` tells before it trains. `--set recipe.remainder=drop` or `=join` avoid such a batch, for all "
        "arms alike."
    )


def _preview_tuning(study: Study, setups: Mapping[str, Setup]) -> TuningPreview | None:
    if study.tuning is None:
        return None
    epochs = {arm: study.tuning.total_epochs(setup.recipe.epochs) for arm, setup in setups.items()}
    return TuningPreview(budget=study.tuning.description, epochs=epochs, seeds=study.tuning.seeds)


def _total_trial_seconds(
    study: Study,
    setups: Mapping[str, Setup],
    seconds_by_arm: Mapping[str, float | None],
) -> float | None:
    """Estimate all trials one after the other: under the study's seeds, as candidates, under the tuned recipes.

    ``None`` where the time of one of them cannot be estimated.
    """
    seconds = list(seconds_by_arm.values())
    for name, setup in study.dependency_setups.items():
        if name not in setups:
            seconds.append(_estimate_or_explain(setup)[0])
    known_seconds = [value for value in seconds if value is not None]
    if len(known_seconds) < len(seconds):
        return None
    comparison_seconds = sum(known_seconds) * len(study.seeds)
    if study.tuning is None:
        return comparison_seconds
    tuning_seconds = []
    for arm, setup in setups.items():
        epochs = setup.recipe.epochs
        # A short rung has the same overhead as a whole trial: with halving the estimate is a little too low.
        tuning_seconds.append((seconds_by_arm[arm] or 0) * study.tuning.total_epochs(epochs) / epochs)
    # Twice: the comparison runs under the shared recipe and again under the tuned ones.
    return 2 * comparison_seconds + sum(tuning_seconds)
