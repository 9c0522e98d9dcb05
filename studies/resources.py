"""What trials take, on which machines, and whether these have it. Imports no engine."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

from lightning_modules.values import InvalidValue, check, did_you_mean, require
from studies.machine import cores, device_name, gpus, memory_gib

PER_TRIAL = {"cpus": "cpus_per_trial", "gpus": "gpus_per_trial", "workers": "workers_per_trial"}


@dataclass(frozen=True, kw_only=True)
class Node:
    """A machine that trains: what Ray may give out there, and what decides bits.

    Attributes:
        model: of its CPU; and of its GPU, where it has one.
    """

    name: str
    cpus: float
    gpus: float
    model: Mapping[str, str]
    memory_gib: float = 0.0

    @classmethod
    def here(cls) -> Node:
        """This machine."""
        seen = gpus()
        models = {device: device_name(device) for device in (("cpu", "cuda") if seen else ("cpu",))}
        return cls(name="this machine", cpus=cores(), gpus=seen, model=models, memory_gib=memory_gib())

    def holds(self, need: Need) -> int:
        """How many workers of such a trial fit."""
        on_cpus = int(self.cpus // need.cpus_per_trial)
        return min(on_cpus, int(self.gpus / need.gpus_per_worker + 1e-6)) if need.gpus_per_trial else on_cpus


@dataclass(frozen=True, kw_only=True)
class Need:
    """What one trial takes.

    Attributes:
        cpus_per_trial: threads of the trial; of each of its workers, where it has several.
        gpus_per_trial: none, a share of one, or a whole number: as many workers then, with a GPU each.
        workers_per_trial: processes that train it together, each on its part of every global batch.
    """

    cpus_per_trial: int = 1
    gpus_per_trial: float = 0.0
    workers_per_trial: int = 1

    def __post_init__(self) -> None:
        check(self)
        require(self.cpus_per_trial >= 1, self, "cpus_per_trial", "1 or more")
        whole = self.gpus_per_trial == int(self.gpus_per_trial)
        allowed = "0 (no GPU), a share of one (0.5), or a whole number: as many workers, with a GPU each"
        require(0 <= self.gpus_per_trial <= 1 or (self.gpus_per_trial > 1 and whole), self, "gpus_per_trial", allowed)
        require(self.workers_per_trial >= 1, self, "workers_per_trial", "1 or more")
        if self.gpus_per_trial > 1 and self.workers_per_trial == 1:
            object.__setattr__(self, "workers_per_trial", int(self.gpus_per_trial))
        with_gpus = f"1, or as many as the {self.gpus_per_trial:g} GPUs of a trial"
        fitting = self.workers_per_trial == 1 or self.gpus_per_trial in (0, self.workers_per_trial)
        require(fitting, self, "workers_per_trial", with_gpus)

    @property
    def gpus_per_worker(self) -> float:
        """A share of one, or one."""
        return self.gpus_per_trial / self.workers_per_trial

    @property
    def device(self) -> str:
        """``cuda`` where a trial takes GPUs or a share of one, else ``cpu``."""
        return "cuda" if self.gpus_per_trial else "cpu"


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What trials take, how many may run at once (0: as many as fit), and where: on this machine, or on a Ray cluster.

    Attributes:
        arms: what the trials of some arms take, where that is not what the others take.
        address: of a Ray cluster (``host:6379``); empty for this machine.

    Raises:
        InvalidValue: for more than this machine has: such a trial would wait for ever. What a cluster has is looked at
            when a study starts there.
    """

    cpus_per_trial: int = 1
    gpus_per_trial: float = 0.0
    workers_per_trial: int = 1
    max_concurrent: int = 0
    arms: Mapping[str, Need] = field(default_factory=dict)
    address: str = ""

    def __post_init__(self) -> None:
        require(self.max_concurrent >= 0, self, "max_concurrent", "0 (as many as fit) or more")
        devices = {need.device for need in self.needs}
        if len(devices) > 1:
            raise InvalidValue(
                "some arms' trials take a GPU and others none; expected one kind of device for all arms."
            )
        if not self.address:
            self.require_room([Node.here()])

    @property
    def needs(self) -> tuple[Need, ...]:
        """Of all kinds of trials; that of the arms which say nothing comes first."""
        general = Need(
            cpus_per_trial=self.cpus_per_trial,
            gpus_per_trial=self.gpus_per_trial,
            workers_per_trial=self.workers_per_trial,
        )
        return (general, *self.arms.values())

    def of(self, arm: str) -> Need:
        """What a trial of an arm takes."""
        return self.arms.get(arm, self.needs[0])

    def for_arm(self, arm: str, **values: float) -> Resources:
        """The resources in which an arm's trials take something else: ``for_arm("E", gpus=2)``.

        Raises:
            InvalidValue: for a name that is none of ``cpus``, ``gpus`` and ``workers``.
        """
        for name in values:
            if name not in PER_TRIAL:
                raise InvalidValue(
                    f"{arm!r} is to take {name!r}.{did_you_mean(name, PER_TRIAL)} There are: {', '.join(PER_TRIAL)}."
                )
        whole = {PER_TRIAL[name]: value if name == "gpus" else int(value) for name, value in values.items()}
        general = asdict(self.of(arm))
        if "gpus" in values and "workers" not in values:
            general["workers_per_trial"] = 1
        return replace(self, arms={**self.arms, arm: Need(**general | whole)})

    @property
    def device(self) -> str:
        """``cuda`` where trials take GPUs or shares of one, else ``cpu``."""
        return self.needs[0].device

    def require_arms(self, names: Iterable[str]) -> None:
        """Raise ``InvalidValue`` where an arm is named that is none of a study's."""
        known = tuple(names)
        for arm in self.arms:
            if arm not in known:
                raise InvalidValue(
                    f"resources are given for {arm!r}, which is no arm.{did_you_mean(arm, known)} "
                    f"There are: {', '.join(known)}."
                )

    def require_room(self, nodes: Sequence[Node]) -> None:
        """Raise ``InvalidValue`` where a trial takes more than there is on the largest machine, or on all of them."""
        for need in self.needs:
            largest = max(int(node.cpus) for node in nodes)
            where = "this machine's" if not self.address else "the largest node's"
            require(need.cpus_per_trial <= largest, need, "cpus_per_trial", f"1 to {where} {largest} cores")
            if need.gpus_per_trial:
                seen = max(node.gpus for node in nodes)
                told = "0: no GPU is visible to this process" if not self.address else "0: no node has a GPU"
                require(seen > 0, need, "gpus_per_trial", told)
            places = sum(node.holds(need) for node in nodes)
            has = "this machine has" if not self.address else f"the {len(nodes)} nodes have"
            require(
                need.workers_per_trial <= places, need, "workers_per_trial", f"1 to {places}: {has} no room for more"
            )


def share_of(need: Need, nodes: Sequence[Node]) -> float:
    """Which share of all machines one such trial takes: one over the number of them that fit."""
    return need.workers_per_trial / max(1, sum(node.holds(need) for node in nodes))


def choose_ray(address: str) -> None:
    """Set what Ray reads as it is loaded: without an address it binds to the loopback interface alone.

    A Ray that has been loaded that way joins no cluster; so this comes before anything imports it.
    """
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "1" if address else "0")


def models_of(nodes: Sequence[Node], device: str) -> tuple[str, ...]:
    """The models of CPU or GPU that the nodes train on."""
    return tuple(sorted({node.model[device] for node in nodes if device in node.model}))


def described(nodes: Sequence[Node], resources: Resources) -> str:
    """The machines in words, like ones together."""
    words = [_in_words(node, resources) for node in nodes]
    counted = {each: words.count(each) for each in words}
    return "; ".join(each if count == 1 else f"{count} nodes of {each}" for each, count in counted.items())


def _in_words(node: Node, resources: Resources) -> str:
    words = f"{node.cpus:g} cores of {node.model['cpu']}, {node.memory_gib:.0f} GiB memory"
    if not resources.needs[0].gpus_per_trial:
        return f"{words}, no GPU"
    gpu = node.model.get("cuda", "GPU")
    return f"{words}, {resources.gpus_per_trial:g} of its {node.gpus:g} {gpu} per trial"
