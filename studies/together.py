"""Several workers on one trial, by Ray Train: it places and joins them, and each trains its part of every batch."""

from __future__ import annotations

import os
import queue
import time
import traceback
import uuid
from contextlib import nullcontext
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "86400")  # the line lets in only whom there is room for
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")

import ray
from ray import train
from ray.train.torch import TorchConfig, TorchTrainer

from lightning_modules.sharing import Share
from studies.bucket import bucket_of
from studies.child import LOST_LEASE, Message, hung, prepare_process, train_once, who_trains
from studies.jobs import Job
from studies.leases import Beating, Lease, acquire, holder
from studies.machine import Machine
from studies.resources import Need
from studies.settings import Settings
from studies.spool import Spool

LOOK_EVERY_SECONDS = 60.0


class Together:
    """A trial's workers, as the trial's actor sees them: like a :class:`studies.child.Child`."""

    def __init__(self, job: Job, settings: Settings, need: Need, scratch: Path, *, loopback: bool) -> None:
        """Place and start them; ``loopback`` where they are all on this machine."""
        self.hang_after_seconds = settings.hang_after_seconds
        # Outside the placement group of the trial's actor, which holds no CPU.
        led: Any = ray.remote(_Team).options(num_cpus=0, max_concurrency=3, scheduling_strategy="DEFAULT")
        self.team: Any = led.remote()
        self.team.train.remote(self.team, job, settings, need, scratch, loopback)
        self.has_begun = False
        self.heard_at = time.monotonic()

    def listen(self) -> list[Message]:
        """The next message that is more than a sign of life; a fault where the workers died or were silent too long."""
        while not self._is_silent():
            message = self._hear()
            if message is None:
                continue
            self.has_begun, self.heard_at = True, time.monotonic()
            if message.kind != "beat":
                return [message]
        self.stop()
        return [Message("fault", hung(self.hang_after_seconds))]

    def stop(self) -> None:
        """End the workers; what they have written stays."""
        ray.kill(self.team)  # what it started ends with it

    def _hear(self) -> Message | None:
        patience = min(self.hang_after_seconds or LOOK_EVERY_SECONDS, LOOK_EVERY_SECONDS)
        try:
            message: Message | None = ray.get(self.team.hear.remote(patience))
        except ray.exceptions.RayActorError as error:
            return Message("fault", f"what leads the trial's workers died: {error}")
        return message

    def _is_silent(self) -> bool:
        """Whether the workers gave no sign of life for too long; before they have begun they wait for their place."""
        waited = time.monotonic() - self.heard_at
        return self.has_begun and bool(self.hang_after_seconds) and waited > self.hang_after_seconds


class _Team:
    """Runs Ray Train's trainer in one thread, and in others passes on what its workers tell."""

    def __init__(self) -> None:
        self.told: queue.Queue[Message] = queue.Queue()

    def tell(self, message: Message) -> None:
        self.told.put(message)

    def hear(self, patience_seconds: float) -> Message | None:
        try:
            return self.told.get(timeout=patience_seconds)
        except queue.Empty:
            return None

    def train(self, me: Any, job: Job, settings: Settings, need: Need, scratch: Path, loopback: bool) -> None:
        """Train a job, and tell how it ended."""
        self.told.put(_outcome(job, settings, _trainer(me, job, settings, need, scratch, loopback)))


def _trainer(me: Any, job: Job, settings: Settings, need: Need, scratch: Path, loopback: bool) -> TorchTrainer:
    run_config: Any = train.RunConfig  # typed as that of an older Ray Train
    gpus = {"GPU": need.gpus_per_worker} if need.gpus_per_trial else {}
    environment = {"GLOO_SOCKET_IFNAME": "lo"} if loopback and Path("/sys/class/net/lo").exists() else {}
    return TorchTrainer(
        _train_part,
        train_loop_config={
            "job": job,
            "settings": settings,
            "machine": Machine(device=need.device, threads=need.cpus_per_trial),
            "team": me,
        },
        torch_config=TorchConfig(backend="nccl" if need.gpus_per_trial else "gloo"),
        scaling_config=train.ScalingConfig(
            num_workers=need.workers_per_trial,
            use_gpu=bool(need.gpus_per_trial),
            resources_per_worker={"CPU": float(need.cpus_per_trial), **gpus},
        ),
        run_config=run_config(
            name=f"{job.folder.name}-{uuid.uuid4().hex[:8]}",
            storage_path=str(scratch),
            worker_runtime_env={"env_vars": environment} if environment else None,
        ),
    )


def _outcome(job: Job, settings: Settings, trainer: TorchTrainer) -> Message:
    """Train, and say how it ended: by what the workers left rather than by what Ray Train makes of it."""
    try:
        trainer.fit()
    except Exception:  # whichever worker failed first, wrapped by Ray Train
        bucket = bucket_of(settings)
        if bucket.of_trial(job.folder).has("result.json") if bucket else Spool(job.folder).result() is not None:
            return Message("ended")
        someone = who_trains(job)
        if someone:
            return Message("elsewhere", str(someone))
        return Message("fault", traceback.format_exc())
    return Message("ended")


def _train_part(config: dict[str, Any]) -> None:
    """What each worker does: the first one takes the trial's lease, writes and tells."""
    job, settings, machine, team = config["job"], config["settings"], config["machine"], config["team"]
    prepare_process(job)
    share = Share.of_process()
    lease = acquire(job.folder) if share.leads else None
    lease = share.told_by_the_first(lease)

    def tell(message: Message) -> None:
        if share.leads:
            ray.get(team.tell.remote(message))

    if lease is None:
        tell(Message("elsewhere", str(holder(job.folder) or "another process")))
        return
    tell(Message("beat"))
    with _kept(lease) if share.leads else nullcontext():
        train_once(job, settings, machine, lease, tell, share)


def _kept(lease: Lease) -> Beating:
    return Beating(lease, on_lost=lambda: os._exit(LOST_LEASE))
