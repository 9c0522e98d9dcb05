"""Check an ablation without training it: its file, its contract, its networks, its data, a batch of every arm."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Literal

import numpy as np

import ablations
from ablations import InvalidAblation, NotASingleChange, UnknownAblation, summarize_differences, summarize_paths
from lightning_modules.data.inventory import Inventory, load_dataset, make_inventory
from lightning_modules.specs.data import Data, ForeignData
from lightning_modules.specs.errors import UserError
from lightning_modules.specs.scale import Scale
from lightning_modules.specs.setup import Setup
from lightning_modules.specs.text import join_clauses
from lightning_modules.specs.values import Leaf
from studies import protocols
from studies.design.batch_proof import describe_failing_batch, is_self_training
from studies.design.declare import changed_and_held_settings, declare
from studies.design.instantiation import instantiate_network
from studies.design.study import Study
from studies.design.verification import build_verified_networks
from studies.inspection.batch_trial import BatchTrial, run_batch
from studies.scratch import temporary_folder
from studies.settings import Settings
from studies.storage.dataset_download import uses_data_root, with_local_data

Step = Literal["file", "claims", "one change", "networks", "data", "batch"]
Level = Literal["ok", "warning", "error"]
Inventories = dict[tuple[Data | ForeignData, Scale], Inventory]
DOWNLOADED_SOURCES = ("cifar10", "cifar100")  # that `ablate run` fetches itself
MAX_SHOWN_TENSORS, MAX_SHOWN_CHANGES = 3, 4  # in a finding


@dataclass(frozen=True, kw_only=True)
class CheckFinding:
    """What a step of the check found.

    Attributes:
        advice: what to do; empty where nothing is wrong.
    """

    step: Step
    level: Level
    finding: str
    advice: str = ""

    @property
    def text(self) -> str:
        """The finding as a line of terminal output."""
        line = f"{self.level:8} {self.step}: {self.finding}"
        return f"{line} -> {self.advice}" if self.advice else line

    def to_json(self) -> dict[str, str]:
        """The finding as `ablate check --json` prints it."""
        return asdict(self)


def check_ablation(
    name: str, protocol: str, overrides: Mapping[str, Leaf], settings: Settings
) -> Iterator[CheckFinding]:
    """Check an ablation under a protocol, step by step; a step that fails ends only those that need it.

    Args:
        name: of an ablation, or the path of its file.

    Raises:
        UnknownAblation, UnknownProtocol: where there is none of that name.
        UnknownPath, InvalidValue: for an override that cannot be applied.
    """
    protocols.load(protocol)  # what was asked for wrongly is no finding about the file
    study = None
    try:
        yield from _describe_declaration(name)
        study = declare(name, protocol, None, overrides)
    except UnknownAblation:
        raise
    except NotASingleChange as error:
        yield CheckFinding(step="one change", level="error", finding=str(error))
    except InvalidAblation as error:
        yield CheckFinding(step="file", level="error", finding=str(error))
    except UserError as error:
        if overrides:
            raise
        yield CheckFinding(step="file", level="error", finding=str(error))
    if study is None:
        return
    yield from _describe_changes(study)
    setups = {**study.dependency_setups, **study.setups()}
    failed_arms: set[str] = set()
    yield from _check_networks(study, setups, failed_arms)
    with _keep_nothing(settings) as cached:
        inventories: Inventories = {}
        local = with_local_data(cached) if any(map(uses_data_root, setups.values())) else cached
        yield from _check_data(study, setups, local, inventories)
        for arm, setup in setups.items():
            if arm not in failed_arms:
                yield from _check_batch(arm, setup, local, inventories)


@contextmanager
def _keep_nothing(settings: Settings) -> Iterator[Settings]:
    """Read data through the cache of the runs folder where there is one, else through a temporary folder."""
    if settings.cache_folder.exists():
        yield settings
        return
    with temporary_folder() as folder:
        yield replace(settings, runs_folder=folder, storage_folder=None, object_store_uri="")


def _describe_declaration(name: str) -> Iterator[CheckFinding]:
    ablation = ablations.load(name)
    arms = ", ".join(arm.name for arm in ablation.all_arms)
    finding = f"it declares {len(ablation.all_arms)} arms ({arms}), compared with {ablation.baseline.name}"
    yield CheckFinding(step="file", level="ok", finding=finding)
    for claim in ablation.claims:
        yield CheckFinding(step="claims", level="ok", finding=claim.sentence)
    if not ablation.claims:
        arm = ablation.arms[0].name
        advice = f'such as claims=(Helps(arm="{arm}", over="{ablation.baseline.name}"),)'
        yield CheckFinding(
            step="claims", level="warning", finding="there are none, so nothing gets a verdict", advice=advice
        )


def _describe_changes(study: Study) -> Iterator[CheckFinding]:
    changes, _ = changed_and_held_settings(study.setups())
    for arm, differences in changes.items():
        changed = summarize_differences(differences)
        summary = "; ".join(changed[:MAX_SHOWN_CHANGES])
        rest = len(changed) - MAX_SHOWN_CHANGES
        more = f"; and {rest} more below {', '.join(study.varied_paths)}" if rest > 0 else ""
        yield CheckFinding(step="one change", level="ok", finding=f"{arm}: {summary}{more}")
    factorial = study.ablation.factorial
    if factorial:
        # Cells in exchanged rows and columns are valid, and give each factor the effect of the other one.
        factors = (factorial.rows, factorial.columns)
        for factor, paths in zip(factors, factorial.changed_paths(study.setups()), strict=True):
            patterns = join_clauses(summarize_paths(paths), MAX_SHOWN_CHANGES)
            finding = f"the factor {factor.name} ({', '.join(factor.levels)}) changes {patterns}"
            yield CheckFinding(step="one change", level="ok", finding=finding)


def _check_networks(study: Study, setups: Mapping[str, Setup], failed_arms: set[str]) -> Iterator[CheckFinding]:
    """Build every network by itself, then compare those of the arms; adds to ``failed_arms``."""
    for arm, setup in setups.items():
        try:
            network = instantiate_network(setup)
        except UserError as error:
            failed_arms.add(arm)
            yield CheckFinding(step="networks", level="error", finding=f"{arm}: {error}")
            continue
        parameters = network.properties.get("parameters", 0)
        size = " x ".join(map(str, setup.scale.image_shape))
        finding = f"{arm}: {parameters:,} parameters; images of {size} to {setup.scale.classes} classes"
        yield CheckFinding(step="networks", level="ok", finding=finding)
        for note in network.notes:
            yield CheckFinding(step="networks", level="warning", finding=f"{arm}: {note}")
    if failed_arms:
        return
    try:
        build_verified_networks(study.setups())
    except NotASingleChange as error:
        yield CheckFinding(step="one change", level="error", finding=str(error))
    except UserError as error:
        yield CheckFinding(step="networks", level="error", finding=str(error))


def _check_data(
    study: Study, setups: Mapping[str, Setup], settings: Settings, inventories: Inventories
) -> Iterator[CheckFinding]:
    """Read the data of all arms; adds to ``inventories`` what can be read."""
    missing: dict[str, str] = {}  # advice by finding, each once
    for setup in setups.values():
        key = (setup.data, setup.scale)
        if key in inventories:
            continue
        source = setup.data.class_path if isinstance(setup.data, ForeignData) else setup.data.source
        if source in DOWNLOADED_SOURCES and not any(settings.data_root.glob("*")):
            advice = "the first `ablate run` downloads it; offline, copy it there or give --data-root"
            missing[f"{source} is not in {settings.data_root}"] = advice
            continue
        try:
            inventory = make_inventory(setup, study.seeds, settings.data_root, settings.cache_folder)
        except (UserError, OSError) as error:
            yield CheckFinding(step="data", level="error", finding=str(error))
            return
        inventories[key] = inventory
        sizes = ", ".join(f"{count:,} for {split}" for split, count in inventory.split_sizes.items())
        finding = f"{inventory.name}: {inventory.num_classes} classes; {sizes} ({inventory.origin})"
        yield CheckFinding(step="data", level="ok", finding=finding)
    for finding, advice in missing.items():
        yield CheckFinding(step="data", level="warning", finding=finding, advice=advice)
    arm_inventories = [inventories.get((setup.data, setup.scale)) for setup in study.setups().values()]
    test_labels = [inventory.test_labels for inventory in arm_inventories if inventory]
    if any(not np.array_equal(test_labels[0], labels) for labels in test_labels):
        finding = "the arms are tested on different examples: their errors cannot be paired"
        yield CheckFinding(step="data", level="error", finding=finding)


def _check_batch(arm: str, setup: Setup, settings: Settings, inventories: Inventories) -> Iterator[CheckFinding]:
    """Run a batch of an arm forward and backward, and prove the other sizes of batch that an epoch has."""
    if not setup.epochs:
        finding = f"{arm} trains no network: there is no batch to try"
        yield CheckFinding(step="batch", level="ok", finding=finding)
        return
    inventory = inventories.get((setup.data, setup.scale))
    try:
        dataset = load_dataset(setup, settings.data_root, settings.cache_folder) if inventory else None
        trial = run_batch(setup, dataset, has_data=inventory is not None)
    except UserError as error:
        yield CheckFinding(step="batch", level="error", finding=f"{arm}: {error}")
        return
    yield _judge_batch(arm, setup, trial)
    if inventory is None:
        return
    failure = describe_failing_batch(setup, inventory.split_sizes["train"], inventory.train_batch_sizes)
    if failure:
        level: Level = "warning" if is_self_training(setup) else "error"
        yield CheckFinding(step="batch", level=level, finding=f"{arm}: {failure}")


def _judge_batch(arm: str, setup: Setup, trial: BatchTrial) -> CheckFinding:
    step: Step = "batch"
    if trial.loss is not None and not math.isfinite(trial.loss):
        finding = f"{arm}: the loss of the first batch, {trial.images}, is {trial.loss}"
        advice = "its logits are NaN or infinite: look for log, sqrt and divisions of what can be 0"
        return CheckFinding(step=step, level="error", finding=finding, advice=advice)
    if trial.not_finite:
        what = "weights after the first step" if trial.loss is None else "gradients of the first batch"
        finding = f"{arm}: {what} are NaN or infinite: {_list_tensors(trial.not_finite)}"
        advice = "look for log, sqrt and divisions of what can be 0"
        return CheckFinding(step=step, level="error", finding=finding, advice=advice)
    if trial.num_tensors == 0:
        finding = f"{arm}: the network has no trainable weight, so training changes nothing"
        advice = "keep layers as attributes of the module, and requires_grad=True"
        return CheckFinding(step=step, level="error", finding=finding, advice=advice)
    if trial.without_gradient:
        return _judge_missing_gradients(arm, trial)
    if trial.loss is None:
        finding = f"{arm}: its own training takes a step, which changes all {trial.num_tensors} weight tensors"
    else:
        chance = math.log(setup.scale.classes)
        finding = (
            f"{arm}: forward and backward on {trial.images}; loss {trial.loss:.2f} (chance: {chance:.2f}), "
            f"and a gradient for all {trial.num_tensors} weight tensors"
        )
    return CheckFinding(step=step, level="ok", finding=finding)


def _judge_missing_gradients(arm: str, trial: BatchTrial) -> CheckFinding:
    names = _list_tensors(trial.without_gradient)
    is_all = len(trial.without_gradient) == trial.num_tensors
    verb = "is left as it was by the first step" if trial.loss is None else "gets no gradient"
    if is_all:
        finding = f"{arm}: none of its {trial.num_tensors} weight tensors is trained: each {verb} ({names})"
    else:
        finding = f"{arm}: {len(trial.without_gradient)} of {trial.num_tensors} weight tensors: each {verb} ({names})"
    advice = (
        "a layer that forward does not use, or a .detach(), torch.no_grad() or .data on the way to the loss"
        if trial.loss is not None
        else "parameters missing in configure_optimizers, a rate of 0, or a .detach() on the way to the loss"
    )
    # Layers that are kept but not used, such as a head that was replaced, are common and harmless.
    return CheckFinding(step="batch", level="error" if is_all else "warning", finding=finding, advice=advice)


def _list_tensors(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:MAX_SHOWN_TENSORS])
    rest = len(names) - MAX_SHOWN_TENSORS
    return f"{shown} and {rest} more" if rest > 0 else shown
