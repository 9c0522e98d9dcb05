"""What a start of a study knows before it plans: data, hardware, digests, registration and stores."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path

import numpy as np
import torch

from ablations import InvalidAblation
from lightning_modules.data.inventory import Inventory, load_dataset, make_inventory
from lightning_modules.specs.data import Data, ForeignData
from lightning_modules.specs.errors import UserError
from lightning_modules.specs.scale import Scale
from lightning_modules.specs.setup import Setup
from studies.design.batch_proof import describe_failing_batch, is_self_training
from studies.design.study import Study, make_trials
from studies.design.trial import hash_content
from studies.design.verification import describe_data_parallel
from studies.execution.resources import (
    Node,
    ResourceRequest,
    Resources,
    configure_ray,
    describe_device,
    device_models_of,
)
from studies.records.digests import code_digest, collect_class_paths, platform_digest, user_code_digest
from studies.records.register import make_registration
from studies.records.registration import Registration
from studies.records.registration_log import RegistrationEntry
from studies.runner.provenance import Revision, command_line, git_revision
from studies.settings import Settings
from studies.storage.dataset_download import uses_data_root, with_local_data
from studies.storage.object_store import ObjectStore, open_object_store
from studies.tracking.ownership import USER_TAG, user_name
from studies.tracking.store import Store, open_store

Inventories = Mapping[tuple[Data | ForeignData, Scale], Inventory]


@dataclass(frozen=True, kw_only=True)
class StudyContext:
    """One start of a study, prepared: nothing in it changes while the study runs.

    Attributes:
        settings: whose data root holds a local copy where the data are fetched from a URI.
        log: prints a line.
        started_at: seconds since 1970.
        object_store: copy of the runs folder; ``None`` where there is none.
        inventory: the data that the arms are tested on.
        nodes: the machines that train.
        device_models: CPU or GPU models that the study's platform consists of; empty for any.
        extra_distributions: Python distributions, beside torch and numpy, whose versions belong to the platform.
        digests: ``data``, ``code`` and ``platform`` of the study.
        user_code_digest: of the user's own code, over all trials; empty where there is none.
        user_code_digests: of the user's own code, by the class paths that a trial uses.
        tags: of every run of the study.
        registration_log: the registration as declared, and its amendments; empty before the study is registered.
    """

    study: Study
    settings: Settings
    resources: Resources
    log: Callable[[str], None]
    started_at: float
    store: Store
    object_store: ObjectStore | None
    inventory: Inventory
    nodes: tuple[Node, ...]
    device_models: tuple[str, ...]
    extra_distributions: tuple[str, ...]
    digests: Mapping[str, str]
    user_code_digest: str
    user_code_digests: Mapping[tuple[str, ...], str]
    revision: Revision
    tags: Mapping[str, str]
    registration: Registration
    registration_log: tuple[RegistrationEntry, ...] = ()

    @cached_property
    def conditions(self) -> str:
        """Digest of what decides the study's trials, except seeds, code and platform."""
        return self.study.conditions_digest(self.inventory.digest, self.user_code_digest)

    @property
    def revision_tags(self) -> dict[str, str]:
        """Tags of the code revision that this start runs."""
        return {name: self.tags[name] for name in ("revision", "working_tree")}

    @property
    def study_folder(self) -> Path:
        """Folder of the study under its conditions."""
        return self.settings.studies_folder / f"{self.study.name}-{self.conditions}"

    def platform_digest_of(self, arm: str) -> str:
        """Digest of the platform that an arm's trials run on."""
        return _platform_digest(self.resources.request_of(arm), self.device_models, self.extra_distributions)


def prepare_study(study: Study, settings: Settings, resources: Resources, log: Callable[[str], None]) -> StudyContext:
    """Read the data of a study, survey the nodes, and open its stores; nothing is written to the tracking store.

    Raises:
        SettingsError: if a folder or the object store cannot be written.
        TrackingError: if the tracking store does not answer.
        ValueError: if resources name an unknown arm, or the data do not suit the study.
    """
    started_at = time.time()
    object_store, store = _open_existing_stores(settings)
    configure_ray(resources.address)
    arms = study.setups()
    resources.require_arms((*arms, *study.source_arms.values(), *chain(*study.evaluated_arms.values())))

    all_setups = _all_setups(study)
    if any(uses_data_root(setup) for setup in all_setups):
        settings = with_local_data(settings, log)
    if not resources.address:
        log(f"device: {describe_device(Node.this_machine(), resources)}")
    inventories = _read_inventories(study, settings, log)
    inventory = _study_inventory(study, inventories)
    for message in describe_data_parallel(arms, lambda arm: resources.request_of(arm).workers_per_trial):
        log(message)
    nodes = _survey_nodes(study, settings, resources, log, has_object_store=object_store is not None)
    resources = resources.for_nodes(nodes)
    device_models = device_models_of(nodes, resources.device)
    extra_distributions = _extra_distributions(all_setups)
    # Taken once: code that is edited while the study runs then fails its trials, and no two versions are mixed.
    digests = {
        "data": inventory.digest,
        "code": code_digest(),
        "platform": _platform_digest(resources.requests[0], device_models, extra_distributions),
    }
    # Of the user's code as well, before networks are built and batches proved: that may take minutes.
    all_user_code, user_code_digests = _digest_user_code(study)
    revision = git_revision()
    registration = make_registration(study, inventory, log)
    _prove_batches(study, inventories, log)  # after the networks are compared: a broken contract is told first
    _prove_first_steps(study, settings, resources, log)
    return StudyContext(
        study=study,
        settings=settings,
        resources=resources,
        log=log,
        started_at=started_at,
        store=store or open_store(settings),
        object_store=object_store,
        inventory=inventory,
        nodes=nodes,
        device_models=device_models,
        extra_distributions=extra_distributions,
        digests=digests,
        user_code_digest=all_user_code,
        user_code_digests=user_code_digests,
        revision=revision,
        tags=_study_tags(study, revision),
        registration=registration,
    )


def _open_existing_stores(settings: Settings) -> tuple[ObjectStore | None, Store | None]:
    """Open the object store, and the tracking store unless its database is still to be created.

    What fails within a second comes first: the data of a large study take minutes to read. A database is created only
    once they are read: a start that is refused leaves none behind.
    """
    settings.create_folders()
    object_store = open_object_store(settings)
    if object_store:
        object_store.require_writable()
    is_new_database = settings.database_file is not None and not settings.database_file.exists()
    return object_store, None if is_new_database else open_store(settings)


def _extra_distributions(setups: Iterable[Setup]) -> tuple[str, ...]:
    """Distributions, beside torch and numpy, that decide the study's bits: scikit-learn's solver fits classifiers."""
    trains_classifier = any(setup.recipe.trains == "linear classifier" for setup in setups)
    return ("scikit-learn",) if trains_classifier else ()


def _digest_user_code(study: Study) -> tuple[str, dict[tuple[str, ...], str]]:
    """Digest the user's own code: over all trials, and by the class paths that a trial uses."""
    setups = [trial.setup for trial in study.trials()]
    class_paths = {collect_class_paths([setup]) for setup in setups}
    return user_code_digest(collect_class_paths(setups)), {paths: user_code_digest(paths) for paths in class_paths}


def _study_tags(study: Study, revision: Revision) -> dict[str, str]:
    return {
        "study": study.name,
        "protocol": study.protocol.name,
        "revision": revision.commit,
        "working_tree": "clean" if revision.is_clean else "uncommitted changes",
        "mlflow.source.name": command_line(),  # MLflow's own tags: columns of its interface
        "mlflow.source.type": "LOCAL",
        USER_TAG: user_name(),
        **revision.mlflow_tags,
    }


def _all_setups(study: Study) -> tuple[Setup, ...]:
    """Setups of all arms and of the networks that these start from or evaluate; equal under every seed."""
    return tuple(trial.setup for trial in make_trials(study.setups(), study.seeds[:1]))


def _read_inventories(study: Study, settings: Settings, log: Callable[[str], None]) -> Inventories:
    """Read the data of all arms, and of the networks that these start from or evaluate."""
    setups = {(setup.data, setup.scale): setup for setup in study.setups().values()}
    for setup in _all_setups(study):
        setups[setup.data, setup.scale] = setup
    for name in dict.fromkeys(_data_name(setup) for setup in setups.values()):
        log(f"reading {name}")
    tuning_seeds = study.tuning.seeds if study.tuning else ()
    seeds = (*study.seeds, *tuning_seeds)

    inventories: dict[tuple[Data | ForeignData, Scale], Inventory] = {}
    findings: dict[str, None] = {}  # a set in order
    for key, setup in setups.items():
        inventory = make_inventory(setup, seeds, settings.data_root, settings.cache_folder, log)
        inventories[key] = inventory
        findings.update(dict.fromkeys(f"left out: {file}" for file in inventory.excluded_files))
        findings.update(dict.fromkeys(f"found in the data: {notice}" for notice in inventory.notices))
    for finding in findings:
        log(finding)
    return inventories


def _study_inventory(study: Study, inventories: Inventories) -> Inventory:
    """The inventory of a study's arms, which may differ in how they read their data but not in the test examples.

    The digest is over the data of all arms and of the networks that these start from: every trial of the study bears
    it.

    Raises:
        InvalidAblation: if the arms are tested on different examples.
    """
    arm_keys = {(setup.data, setup.scale): None for setup in study.setups().values()}  # a set in order
    first, *others = (inventories[key] for key in arm_keys)
    for other in others:
        if not np.array_equal(first.test_labels, other.test_labels):
            raise InvalidAblation("the arms' data are tested on different examples: their errors cannot be paired.")
    # Data of one source keep their own digest, by which other studies of that source can reuse the trials.
    digests = sorted({inventory.digest for inventory in inventories.values()})
    return first if len(digests) == 1 else replace(first, digest=hash_content(digests))


def _prove_batches(study: Study, inventories: Inventories, log: Callable[[str], None]) -> None:
    """Run every network that is to be trained on all sizes of batch that its data give.

    A failing module that trains itself is logged only: its training step may take care of such batches.

    Raises:
        UserError: naming the arms whose every trial would fail, and what to do.
    """
    arms_by_failure: dict[str, list[str]] = {}
    for name, setup in {**study.dependency_setups, **study.setups()}.items():
        inventory = inventories[setup.data, setup.scale]
        failure = describe_failing_batch(setup, inventory.split_sizes["train"], inventory.train_batch_sizes)
        if failure and is_self_training(setup):
            log(f"note: {name}: {failure}")
        elif failure:
            arms_by_failure.setdefault(failure, []).append(name)
    if arms_by_failure:
        raise UserError("\n".join(f"{', '.join(arms)}: {failure}" for failure, arms in arms_by_failure.items()))


def _prove_first_steps(study: Study, settings: Settings, resources: Resources, log: Callable[[str], None]) -> None:
    """Run the first step of every module that trains itself, where this machine has the device that trials take.

    Raises:
        UserError: naming the arm whose every trial would fail at that step.
    """
    for name, setup in {**study.dependency_setups, **study.setups()}.items():
        if not setup.has_training or not is_self_training(setup):
            continue
        from studies.design.first_step import prove_first_step  # imports Lightning, which other studies spare

        device = torch.device(resources.request_of(name).device)
        if device.type == "cpu" or torch.cuda.is_available():
            dataset = load_dataset(setup, settings.data_root, settings.cache_folder)
            note = prove_first_step(name, setup, dataset, device)
            if note:
                log(f"note: {name}: {note}")


def _data_name(setup: Setup) -> str:
    return setup.data.class_path if isinstance(setup.data, ForeignData) else setup.data.source


def _survey_nodes(
    study: Study,
    settings: Settings,
    resources: Resources,
    log: Callable[[str], None],
    *,
    has_object_store: bool,
) -> tuple[Node, ...]:
    """The machines that train, each checked for the folders that trials need there."""
    if not resources.address:
        return (Node.this_machine(),)
    from studies.execution.cluster.ray_cluster import (
        survey_nodes,  # loading Ray takes a second, which this machine can save
    )

    log(f"asking the nodes of the cluster {resources.address}")
    # Without an object store all nodes share the trials folder; with one, each has its own.
    shared_folders = [] if has_object_store else [settings.trials_folder]
    own_folders = [settings.trials_folder] if has_object_store else []
    if not settings.data_uri and any(uses_data_root(setup) for setup in _all_setups(study)):
        shared_folders.append(settings.data_root)
    return survey_nodes(resources, shared_folders, study.import_paths, own_folders, settings.object_store_uri)


def _platform_digest(request: ResourceRequest, device_models: Sequence[str], extra_distributions: Sequence[str]) -> str:
    return platform_digest(
        request.device, request.cpus_per_trial, device_models, request.workers_per_trial, extra_distributions
    )
