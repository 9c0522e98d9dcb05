"""Data-parallel training of one trial by Ray Train: each worker trains its shard of every global batch."""

from __future__ import annotations

import os
import queue
import time
import traceback
import uuid
from contextlib import nullcontext
from pathlib import Path
from typing import Any

# Before Ray is imported: it reads some of these as it loads.
os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "86400")  # the queue starts only jobs that fit
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")

import ray
from ray import train
from ray.train.torch import TorchConfig, TorchTrainer

from lightning_modules.distributed import DataParallelRank
from studies.execution.jobs import FINAL_KINDS, MessageKind, TrialJob, TrialMessage
from studies.execution.processes.bundle_process import MAX_SILENCE_SECONDS, describe_hang
from studies.execution.processes.trial_process import (
    LEASE_LOST_EXIT_CODE,
    find_training_process,
    prepare_process,
    train_job,
)
from studies.execution.resources import ResourceRequest
from studies.hardware import Machine
from studies.settings import Settings
from studies.storage.lease import Heartbeat, Lease, acquire_lease, find_holder
from studies.storage.object_store import open_object_store
from studies.storage.trial_folder import TrialFolder

POLL_SECONDS = MAX_SILENCE_SECONDS  # how long one call waits for a message


class DataParallelWorkers:
    """Handle of a trial's workers.

    It has the interface of :class:`studies.execution.processes.bundle_process.TrialProcess`.
    """

    def __init__(
        self, job: TrialJob, settings: Settings, request: ResourceRequest, scratch: Path, *, loopback: bool
    ) -> None:
        """Start the workers; ``loopback`` says that all of them are on this machine."""
        self.hang_after_seconds = settings.hang_after_seconds
        # Outside the placement group of the trial's actor, which reserves no CPU. Three threads: one trains, one waits
        # for messages, one receives them from rank 0.
        actor_class: Any = ray.remote(_TrainerActor).options(
            num_cpus=0, max_concurrency=3, scheduling_strategy="DEFAULT"
        )
        self.trainer_actor: Any = actor_class.remote()
        self.trainer_actor.train.remote(self.trainer_actor, job, settings, request, scratch, loopback)
        self.has_started = False
        self.last_kind: MessageKind = "beat"
        self.last_heartbeat_at = time.monotonic()

    @property
    def has_ended(self) -> bool:
        """Whether the last message said how the trial ended."""
        return self.last_kind in FINAL_KINDS

    def listen(self) -> list[TrialMessage]:
        """Wait for the next message other than a heartbeat; dead workers and workers that hang are a fault."""
        return_at = time.monotonic() + MAX_SILENCE_SECONDS
        while not self._is_timed_out():
            if time.monotonic() > return_at:
                return []
            message = self._next_message()
            if message is None:
                continue
            self.has_started = True
            self.last_heartbeat_at = time.monotonic()
            self.last_kind = message.kind
            if message.kind != "beat":
                return [message]
        self.stop()
        self.last_kind = "fault"
        return [TrialMessage("fault", describe_hang(self.hang_after_seconds))]

    def stop(self) -> None:
        """Kill the workers; their files stay."""
        ray.kill(self.trainer_actor)  # Ray ends the workers with the actor that started them

    def _next_message(self) -> TrialMessage | None:
        timeout_seconds = min(self.hang_after_seconds or POLL_SECONDS, POLL_SECONDS)
        try:
            message: TrialMessage | None = ray.get(self.trainer_actor.receive.remote(timeout_seconds))
        except ray.exceptions.RayActorError as error:
            return TrialMessage("fault", f"the actor that leads the trial's workers died: {error}")
        return message

    def _is_timed_out(self) -> bool:
        """Whether the workers have sent no heartbeat for too long."""
        if not self.has_started or not self.hang_after_seconds:
            return False  # before the first message the workers wait for their resources
        return time.monotonic() - self.last_heartbeat_at > self.hang_after_seconds


class _TrainerActor:
    """Ray actor that runs Ray Train's trainer in one thread, and forwards the workers' messages in others."""

    def __init__(self) -> None:
        self.messages: queue.Queue[TrialMessage] = queue.Queue()

    def send(self, message: TrialMessage) -> None:
        self.messages.put(message)

    def receive(self, timeout_seconds: float) -> TrialMessage | None:
        try:
            return self.messages.get(timeout=timeout_seconds)
        except queue.Empty:
            return None

    def train(
        self, actor: Any, job: TrialJob, settings: Settings, request: ResourceRequest, scratch: Path, loopback: bool
    ) -> None:
        """Train a job, and send how it ended."""
        trainer = _make_trainer(actor, job, settings, request, scratch, loopback)
        self.messages.put(_run_trainer(job, settings, trainer))


def _make_trainer(
    actor: Any, job: TrialJob, settings: Settings, request: ResourceRequest, scratch: Path, loopback: bool
) -> TorchTrainer:
    run_config: Any = train.RunConfig  # its annotation is that of an older Ray Train
    resources_per_worker = {"CPU": float(request.cpus_per_trial)}
    if request.gpus_per_trial:
        resources_per_worker["GPU"] = request.gpus_per_worker
    environment: dict[str, str] = {}
    if loopback and Path("/sys/class/net/lo").exists():  # Linux; other systems name it otherwise
        environment["GLOO_SOCKET_IFNAME"] = "lo"
    return TorchTrainer(
        _train_on_worker,
        train_loop_config={
            "job": job,
            "settings": settings,
            "machine": Machine(device=request.device, num_threads=request.cpus_per_trial),
            "trainer_actor": actor,
        },
        torch_config=TorchConfig(backend="nccl" if request.gpus_per_trial else "gloo"),
        scaling_config=train.ScalingConfig(
            num_workers=request.workers_per_trial,
            use_gpu=bool(request.gpus_per_trial),
            resources_per_worker=resources_per_worker,
        ),
        run_config=run_config(
            name=f"{job.folder.name}-{uuid.uuid4().hex[:8]}",
            storage_path=str(scratch),
            worker_runtime_env={"env_vars": environment} if environment else None,
        ),
    )


def _run_trainer(job: TrialJob, settings: Settings, trainer: TorchTrainer) -> TrialMessage:
    """Train, and return how it ended.

    Where Ray Train raises, the workers' files and lease decide: it wraps the exception of whichever worker failed
    first, also where rank 0 has recorded the trial's own exception as its result.
    """
    try:
        trainer.fit()
    except Exception:
        if _has_result(job, settings):
            return TrialMessage("ended")
        holder = find_training_process(job)
        if holder:
            return TrialMessage("elsewhere", str(holder))
        return TrialMessage("fault", traceback.format_exc())
    return TrialMessage("ended")


def _has_result(job: TrialJob, settings: Settings) -> bool:
    """Whether rank 0 has written a result; its folder may be on another node than this process."""
    object_store = open_object_store(settings)
    if object_store:
        return object_store.remote_trial(job.folder).has_file("result.json")
    return TrialFolder(job.folder).read_result() is not None


def _train_on_worker(config: dict[str, Any]) -> None:
    """Train one worker's shards; rank 0 also holds the lease, writes the files and sends the messages."""
    job: TrialJob = config["job"]
    trainer_actor: Any = config["trainer_actor"]
    prepare_process(job)
    dp_rank = DataParallelRank.from_process_group()
    lease = acquire_lease(job.folder) if dp_rank.is_rank_zero else None
    lease = dp_rank.broadcast(lease)

    def send(message: TrialMessage) -> None:
        if dp_rank.is_rank_zero:
            ray.get(trainer_actor.send.remote(message))

    if lease is None:
        send(TrialMessage("elsewhere", str(find_holder(job.folder) or "another process")))
        return
    send(TrialMessage("beat"))
    with _keep_alive(lease) if dp_rank.is_rank_zero else nullcontext():
        train_job(job, config["settings"], config["machine"], lease, send, dp_rank)


def _keep_alive(lease: Lease) -> Heartbeat:
    return Heartbeat(lease, on_lost=lambda: os._exit(LEASE_LOST_EXIT_CODE))
