"""CPUs and GPUs that trials request, and the machines that provide them. Imports neither Ray nor torch."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Literal

from lightning_modules.specs.errors import InvalidValue, did_you_mean
from lightning_modules.specs.notebook_html import describe_object, list_changed_fields
from lightning_modules.specs.values import check_fields, require_field
from studies.hardware import count_cores, device_name, gpu_names, memory_gib

Auto = Literal["auto"]
REQUEST_FIELDS = {"cpus": "cpus_per_trial", "gpus": "gpus_per_trial", "workers": "workers_per_trial"}


@dataclass(frozen=True, kw_only=True)
class Node:
    """A machine that trains: the resources that Ray manages there, and the models of its devices.

    Attributes:
        name: how messages name it.
        cpus: cores that Ray may give to trials.
        gpus: GPUs that Ray may give to trials.
        device_models: model name by device, ``cpu`` and, where it has a GPU, ``cuda``. Results are bit-for-bit
            reproducible on one model only.
        memory_gib: main memory in GiB.
        gpu_models: distinct models of its GPUs, where it has been asked; more than one cannot train a study.
    """

    name: str
    cpus: float
    gpus: float
    device_models: Mapping[str, str]
    memory_gib: float = 0.0
    gpu_models: tuple[str, ...] = ()

    @classmethod
    def this_machine(cls) -> Node:
        """Describe the machine of this process, with the GPUs that are visible to it."""
        gpus = gpu_names()
        models = {"cpu": device_name("cpu")}
        if gpus:
            models["cuda"] = gpus[0]
        return cls(
            name="this machine",
            cpus=count_cores(),
            gpus=len(gpus),
            device_models=models,
            memory_gib=memory_gib(),
            gpu_models=tuple(dict.fromkeys(gpus)),
        )

    def max_workers(self, request: ResourceRequest) -> int:
        """How many workers of trials with this request fit on the machine."""
        fitting_cpus = int(self.cpus // request.cpus_per_trial)
        if not request.gpus_per_trial:
            return fitting_cpus
        # Shares of one GPU each: two GPUs have room for two trials of 0.6, not for three. 1 / 0.1 may round to 9.999…
        workers_per_gpu = int(1 / request.gpus_per_worker + 1e-6)
        return min(fitting_cpus, int(self.gpus) * workers_per_gpu)


@dataclass(frozen=True, kw_only=True)
class ResourceRequest:
    """Resources of one trial.

    Attributes:
        cpus_per_trial: threads of the trial; of each of its workers, where it has several.
        gpus_per_trial: 0, a share of one GPU, or a whole number: then the trial has as many workers, with a GPU each.
        workers_per_trial: processes that train it data-parallel, each on its shard of every global batch.

    Raises:
        InvalidValue: for numbers that no trial can use.
    """

    cpus_per_trial: int = 1
    gpus_per_trial: float = 0.0
    workers_per_trial: int = 1

    def __post_init__(self) -> None:
        check_fields(self)
        require_field(self.cpus_per_trial >= 1, self, "cpus_per_trial", "1 or more")
        is_share = 0 <= self.gpus_per_trial <= 1
        is_whole = self.gpus_per_trial > 1 and self.gpus_per_trial == int(self.gpus_per_trial)
        allowed = "0 (no GPU), a share of one (0.5), or a whole number: as many workers, with a GPU each"
        require_field(is_share or is_whole, self, "gpus_per_trial", allowed)
        require_field(self.workers_per_trial >= 1, self, "workers_per_trial", "1 or more")
        if self.gpus_per_trial > 1 and self.workers_per_trial == 1:
            object.__setattr__(self, "workers_per_trial", int(self.gpus_per_trial))  # the dataclass is frozen
        matches_gpus = self.workers_per_trial == 1 or self.gpus_per_trial in (0, self.workers_per_trial)
        allowed = f"1, or as many as the {self.gpus_per_trial:g} GPUs of a trial"
        require_field(matches_gpus, self, "workers_per_trial", allowed)

    @property
    def gpus_per_worker(self) -> float:
        """GPUs of each worker: 0, a share of one, or 1."""
        return self.gpus_per_trial / self.workers_per_trial

    @property
    def device(self) -> str:
        """``cuda`` for a trial with a GPU or a share of one, else ``cpu``."""
        return "cuda" if self.gpus_per_trial else "cpu"


@dataclass(frozen=True, kw_only=True)
class Resources:
    """Resources of a study's trials, on this machine or on a Ray cluster.

    Attributes:
        cpus_per_trial: threads of a trial, or of each of its workers.
        gpus_per_trial: GPUs of a trial, see :class:`ResourceRequest`; ``auto``: one where a machine has a GPU, else 0.
        bundle_size: trials of an arm, under as many seeds, that one process trains at once on a GPU, or on a CPU where
            a number is given; ``auto``: on a GPU as many as use it best, on a CPU one.
        workers_per_trial: processes that train a trial data-parallel.
        max_concurrent: how many trials may run at once; 0 for as many as fit.
        arms: requests of the arms whose trials differ from the others.
        address: of a Ray cluster (``host:6379``); empty for this machine.

    Raises:
        InvalidValue: for more than this machine has: such a trial would wait forever. A cluster's capacity is checked
            when a study starts there.
    """

    cpus_per_trial: int = 1
    gpus_per_trial: float | Auto = "auto"
    workers_per_trial: int = 1
    bundle_size: int | Auto = "auto"
    max_concurrent: int = 0
    arms: Mapping[str, ResourceRequest] = field(default_factory=dict)
    address: str = ""

    def __post_init__(self) -> None:
        require_field(self.max_concurrent >= 0, self, "max_concurrent", "0 (as many as fit) or more")
        is_size = isinstance(self.bundle_size, int) and self.bundle_size >= 1
        require_field(is_size or self.bundle_size == "auto", self, "bundle_size", "auto, or 1 or more")
        if not self.address:
            self._choose_gpus([Node.this_machine()])
        self._require_bundles_fit()
        devices = {request.device for request in self.requests}
        if len(devices) > 1:  # the arms would differ in their platform, whose results are not comparable bit for bit
            raise InvalidValue(
                "some arms' trials take a GPU and others none; expected one kind of device for all arms."
            )
        if not self.address:
            self.require_capacity([Node.this_machine()])

    def __repr__(self) -> str:
        facts = [f"{self.cpus_per_trial} CPU cores and {self.gpus_per_trial} GPUs per trial"]
        facts += list_changed_fields(self, ("workers_per_trial", "bundle_size", "max_concurrent", "address"))
        facts += [f"others for {', '.join(self.arms)}"] if self.arms else []
        return describe_object(self, f"of {'; '.join(facts)}")

    def _choose_gpus(self, nodes: Sequence[Node]) -> None:
        if self.gpus_per_trial == "auto":
            has_gpu = self.workers_per_trial == 1 and any(node.gpus for node in nodes)
            object.__setattr__(self, "gpus_per_trial", 1.0 if has_gpu else 0.0)  # the dataclass is frozen

    def for_nodes(self, nodes: Sequence[Node]) -> Resources:
        """Return the resources with ``auto`` decided by the nodes of a cluster."""
        chosen = replace(self)
        chosen._choose_gpus(nodes)
        return chosen

    def _require_bundles_fit(self) -> None:
        if self.bundle_size in ("auto", 1):
            return
        for request in self.requests:
            fits = request.workers_per_trial == 1 and request.gpus_per_trial in (0, 1)
            allowed = (
                "1 where a trial has a share of a GPU or several workers: a bundle is one process with a whole GPU"
            )
            require_field(fits, self, "bundle_size", allowed)
        is_small = not self.max_concurrent or int(self.bundle_size) <= self.max_concurrent
        allowed = f"1 to {self.max_concurrent}: max_concurrent counts the trials of a bundle one by one"
        require_field(is_small, self, "bundle_size", allowed)

    @property
    def requests(self) -> tuple[ResourceRequest, ...]:
        """Requests of all kinds of trials; the default, of arms without one of their own, comes first."""
        default = ResourceRequest(
            cpus_per_trial=self.cpus_per_trial,
            gpus_per_trial=0.0 if self.gpus_per_trial == "auto" else self.gpus_per_trial,
            workers_per_trial=self.workers_per_trial,
        )
        return (default, *self.arms.values())

    def request_of(self, arm: str) -> ResourceRequest:
        """Return the resources of a trial of an arm."""
        return self.arms.get(arm, self.requests[0])

    def for_arm(self, arm: str, **values: float) -> Resources:
        """Return a copy with other resources for one arm's trials: ``for_arm("E", gpus=2)``.

        Args:
            arm: the name of the arm.
            values: ``cpus``, ``gpus`` or ``workers`` per trial; what is not given stays as it is.

        Raises:
            InvalidValue: for a name that is none of ``cpus``, ``gpus`` and ``workers``.
        """
        fields = asdict(self.request_of(arm))
        if "gpus" in values:
            fields["workers_per_trial"] = 1  # derived anew from the number of GPUs, unless it is given
        for name, value in values.items():
            if name not in REQUEST_FIELDS:
                raise InvalidValue(
                    f"resources of arm {arm!r} include {name!r}, which is no resource."
                    f"{did_you_mean(name, REQUEST_FIELDS)} There are: {', '.join(REQUEST_FIELDS)}."
                )
            fields[REQUEST_FIELDS[name]] = value if name == "gpus" else int(value)
        return replace(self, arms={**self.arms, arm: ResourceRequest(**fields)})

    @property
    def device(self) -> str:
        """``cuda`` for trials with GPUs or shares of one, else ``cpu``."""
        return self.requests[0].device

    def require_arms(self, names: Iterable[str]) -> None:
        """Check that resources are given only for arms of a study.

        Raises:
            InvalidValue: for any other arm.
        """
        known = tuple(names)
        for arm in self.arms:
            if arm not in known:
                raise InvalidValue(
                    f"resources are given for {arm!r}, which is not an arm.{did_you_mean(arm, known)} "
                    f"There are: {', '.join(known)}."
                )

    def require_capacity(self, nodes: Sequence[Node]) -> None:
        """Check that every kind of trial fits: each worker on the largest machine, all workers on all machines.

        Raises:
            InvalidValue: for a request that does not fit.
        """
        if self.address:
            largest_node, all_nodes, no_gpu = "the largest node's", f"the {len(nodes)} nodes have", "no node has a GPU"
        else:
            largest_node, all_nodes = "this machine's", "this machine has"
            no_gpu = "no GPU is visible to this process"
        most_cpus = max(int(node.cpus) for node in nodes)
        for request in self.requests:
            allowed = f"1 to {largest_node} {most_cpus} cores"
            require_field(request.cpus_per_trial <= most_cpus, request, "cpus_per_trial", allowed)
            if request.gpus_per_trial:
                most_gpus = max(node.gpus for node in nodes)
                require_field(most_gpus > 0, request, "gpus_per_trial", f"0: {no_gpu}")
                for node in nodes:
                    allowed = (
                        f"0, or GPUs of one model, chosen by CUDA_VISIBLE_DEVICES: {node.name} has "
                        f"{' and '.join(node.gpu_models)}, which do not compute the same bits"
                    )
                    require_field(len(node.gpu_models) <= 1, request, "gpus_per_trial", allowed)
            max_workers = sum(node.max_workers(request) for node in nodes)
            allowed = f"1 to {max_workers}: {all_nodes} no room for more"
            require_field(request.workers_per_trial <= max_workers, request, "workers_per_trial", allowed)


def cluster_share_of(request: ResourceRequest, nodes: Sequence[Node]) -> float:
    """Share of all machines that one such trial takes: its workers over the number of workers that fit."""
    max_workers = sum(node.max_workers(request) for node in nodes)
    return request.workers_per_trial / max(1, max_workers)


def configure_ray(address: str) -> None:
    """Set the environment variable by which Ray, when it is imported, decides whether it may join a cluster.

    Without an address Ray binds to the loopback interface alone. Call this before anything imports Ray.
    """
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "1" if address else "0")


def device_models_of(nodes: Sequence[Node], device: str) -> tuple[str, ...]:
    """Distinct CPU or GPU models of the nodes, sorted; ``device`` is ``cpu`` or ``cuda``."""
    models = {node.device_models[device] for node in nodes if device in node.device_models}
    return tuple(sorted(models))


def describe_device(node: Node, resources: Resources) -> str:
    """Name the device that trials on a machine compute on."""
    if resources.device == "cpu":
        return f"CPU, {node.cpus:g} cores"
    model = node.device_models.get("cuda", "GPU")
    return model if node.gpus == 1 else f"{node.gpus:g} GPUs, {model}"


def describe_nodes(nodes: Sequence[Node], resources: Resources) -> str:
    """Describe the machines in words, equal ones together."""
    counts = Counter(_describe_node(node, resources) for node in nodes)
    descriptions: list[str] = []
    for description, count in counts.items():
        descriptions.append(description if count == 1 else f"{count} nodes of {description}")
    return "; ".join(descriptions)


def _describe_node(node: Node, resources: Resources) -> str:
    cpu_and_memory = f"{node.cpus:g} cores of {node.device_models['cpu']}, {node.memory_gib:.0f} GiB memory"
    if not resources.requests[0].gpus_per_trial:
        return f"{cpu_and_memory}, no GPU"
    gpu = node.device_models.get("cuda", "GPU")
    return f"{cpu_and_memory}, {resources.requests[0].gpus_per_trial:g} of its {node.gpus:g} {gpu} per trial"
