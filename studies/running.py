"""From a name to a recorded study: one straight line through planning, dispatch and the record."""

from __future__ import annotations

import getpass
import os
import platform
import shlex
import subprocess
import sys
import textwrap
import time
from _thread import interrupt_main
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from importlib import metadata
from itertools import chain
from pathlib import Path

import numpy as np

from ablations import InvalidAblation
from lightning_modules.reading import Inventory, inventory
from lightning_modules.spec import ForeignData, Setup
from lightning_modules.values import InvalidValue, Leaf
from studies import ahead, board, protocols
from studies.bucket import TOLD, BucketFault, bucket_of
from studies.declaring import declare, register
from studies.digests import FIRST_PARTY, class_paths, code_digest, platform_digest, user_code_digest
from studies.fetching import is_read_from_a_folder, with_data
from studies.fits import Fit, from_first_donor, hashed, with_donors
from studies.jobs import Job, Watcher
from studies.leases import acquire
from studies.live import Progressing
from studies.planning import Plan, Reuse, merged, plan, with_weights
from studies.records import Identity, Start, StudyRecord
from studies.resources import Need, Node, Resources, choose_ray, described, models_of
from studies.results import Result, failed
from studies.settings import Settings, without_credentials
from studies.spool import Spool
from studies.syncing import Entry, Ledger, alone, bring_plan, log
from studies.teams import synchronised
from studies.tracking import OF_STUDY, Store, StoreFault, TrackingError, answering, root_of
from studies.trials import Study, fits_of, longest_first
from studies.tuning import Tuning
from studies.writing import Writer

Unresolved = Callable[[StudyRecord], Sequence[str]]  # the sentences of the claims that are still open
LOG_EVERY_SECONDS = 5.0  # per trial: a write costs the driver as much as the values of some epochs do
REST_SECONDS = 10.0  # after a write that the store did not take: each attempt keeps the driver waiting
REPORTED_VERSIONS = ("torch", "torchvision", "pytorch-lightning", "ray", "mlflow", "numpy", "scipy", "scikit-learn")


@dataclass
class Driver:
    """One start of a study: what it needs to plan, to train and to record."""

    study: Study
    settings: Settings
    resources: Resources
    say: Callable[[str], None]
    goes_on: str = ""  # the parent run that this start must belong to; empty where it may be a new one
    began: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        self.settings.make()
        self.bucket = bucket_of(self.settings)
        if self.bucket:
            self.bucket.require_writable()
        self.store = Store(self.settings)
        choose_ray(self.resources.address)
        self.resources.require_arms(
            (*self.study.setups(), *self.study.donors.values(), *chain(*self.study.tested.values()))
        )
        self.data = self._inventory()
        for told in synchronised(self.study.setups(), lambda arm: self.resources.of(arm).workers_per_trial):
            self.say(told)
        self.nodes = self._nodes()
        self.models = models_of(self.nodes, self.resources.device)
        self.digests = {
            "data": self.data.digest,
            "code": code_digest(),
            "platform": self._platform(self.resources.needs[0]),
        }
        fits = self.study.trials()
        self.places: dict[Fit, Place] = {}
        self.begun: tuple[int, ...] = ()
        self.has_told = False
        self.user_code = user_code_digest(class_paths(fit.setup for fit in fits))
        self.user_code_by_paths = {
            paths: user_code_digest(paths) for paths in {class_paths([fit.setup]) for fit in fits}
        }
        self.revision, self.clean = git_revision()
        self.tags = {
            "study": self.study.name,
            "protocol": self.study.protocol.name,
            "revision": self.revision,
            "mlflow.source.name": command(),
            "mlflow.source.type": "LOCAL",
            "mlflow.user": user(),
        }
        self.registration = register(self.study, self.data)
        self.parent = ""

    def _nodes(self) -> tuple[Node, ...]:
        """The machines that train."""
        if not self.resources.address:
            return (Node.here(),)
        from studies.cluster import survey

        self.say(f"asking the nodes of the cluster {self.resources.address}")
        settings, trials = self.settings, [self.settings.trials]
        seen = [] if self.bucket else trials
        if not settings.data_uri and any(map(is_read_from_a_folder, self._all_setups)):
            seen = [*seen, settings.data_root]
        made = trials if self.bucket else []
        return survey(self.resources, seen, self.study.import_paths, made, settings.bucket)

    def _platform(self, need: Need) -> str:
        """That of a trial; where any trial of the study fits a linear classifier, with the version of what fits it."""
        classifies = any(setup.recipe.trains == "linear classifier" for setup in self._all_setups)
        also = ("scikit-learn",) if classifies else ()
        return platform_digest(need.device, need.cpus_per_trial, self.models, need.workers_per_trial, also)

    def _inventory(self) -> Inventory:
        """What the arms read; they may differ in how they read it, and are tested on the same examples.

        The digest covers what their donors read as well, and is that of every trial of the study.
        """
        arms = {(setup.data, setup.scale): setup for setup in self.study.setups().values()}
        setups = arms | {(setup.data, setup.scale): setup for setup in self._all_setups}
        if any(map(is_read_from_a_folder, setups.values())):
            self.settings = with_data(self.settings, self.say)
        for name in dict.fromkeys(map(_name_of, setups.values())):
            self.say(f"reading {name}")
        seeds = (*self.study.seeds, *(self.study.tuning.seeds if self.study.tuning else ()))
        found = {
            key: inventory(setup, seeds, self.settings.data_root, self.settings.cache, self.say)
            for key, setup in setups.items()
        }
        for bad in dict.fromkeys(bad for each in found.values() for bad in each.left_out):
            self.say(f"left out: {bad}")
        first, *others = (found[key] for key in arms)
        if any(not np.array_equal(first.test_labels, other.test_labels) for other in others):
            raise InvalidAblation("the arms' data are tested on different examples: their errors cannot be paired.")
        digests = sorted({each.digest for each in found.values()})
        return first if len(digests) == 1 else replace(first, digest=hashed(digests))

    @cached_property
    def _all_setups(self) -> tuple[Setup, ...]:
        """Those of arms and donors; under every seed they are the same."""
        return tuple(fit.setup for fit in fits_of(self.study.setups(), self.study.seeds[:1]))

    def digests_of(self, fit: Fit) -> dict[str, str]:
        """What decides a fit's bits beside setup and seed; of the user's code, what this very fit uses."""
        user_code = self.user_code_by_paths[class_paths([fit.setup])]
        platform = {"platform": self._platform(self.resources.of(fit.arm))}
        return self.digests | platform | ({"user_code": user_code} if user_code else {})

    def identity(self, fit: Fit) -> Identity:
        """What must agree before an ended trial is used again."""
        return Identity.of(fit.fingerprint, self.digests_of(fit))

    def spool(self, fit: Fit) -> Spool:
        """The trial's folder."""
        digests = "-".join(digest[:6] for digest in self.digests_of(fit).values())
        folder = self.settings.trials / f"{fit.fingerprint}-{digests}"
        return Spool(folder, mirror=self.bucket.of_trial(folder) if self.bucket else None)

    def plan(self, fits: Sequence[Fit], reuse: Reuse = "matching") -> Plan:
        """What is left to do of some fits; a failed candidate has ended, see :meth:`studies.tracking.Store.ended`."""

        def is_spooled(fit: Fit) -> bool:
            spool = self.spool(fit)
            return spool.has_ended or (fit.tunes and spool.result() is not None)

        if self.bucket:
            with self.bucket.needed():
                self.bucket.bring((self.spool(fit).folder for fit in fits), both_ways=True)
        ended = self.store.ended() + (self.store.ended("candidate") if any(fit.tunes for fit in fits) else [])
        parents = dict.fromkeys(self.place(fit).parent for fit in fits)
        plans = [
            plan(
                [fit for fit in fits if self.place(fit).parent == parent],
                self.identity,
                ended,
                is_spooled,
                parent,
                reuse,
            )
            for parent in parents
        ]
        return with_weights(merged(plans), self._has_weights)

    def _has_weights(self, fit: Fit) -> bool:
        weights = self.spool(fit).weights
        if weights.exists() or not self.bucket:
            return weights.exists()
        with self.bucket.needed():
            return self.bucket.of_trial(weights.parent).has(weights.name)

    def place(self, fit: Fit) -> Place:
        """Where a fit stands in the record: below the study, unless it serves tuning or a tuned recipe."""
        return self.places.get(fit, Place(parent=self.parent, tags={}, label=fit.arm))

    def run(
        self, reuse: Reuse = "matching", *, quiet: bool = False, unresolved: Unresolved | None = None
    ) -> StudyRecord:
        """Do what is left, and read the study back.

        Args:
            unresolved: of a sequential study as recorded so far, the claims that its next look is needed for.

        Raises:
            SettingsError: where another process runs the same study under the same conditions.
            TrackingError: where the store falters as the study is planned; while trials run, it is waited for.
            InvalidValue: for a sequential study and nobody to say what is resolved.
        """
        if len(self.study.stages) > 1 and unresolved is None:
            raise InvalidValue(
                "a study with looks stops when its claims are resolved: pass unresolved=reports.unresolved."
            )
        with alone(self.folder, self.study.name, on_lost=interrupt_main), answering(self.settings.tracking_uri):
            if self.bucket:
                with self.bucket.needed():
                    bring_plan(self.bucket.of_study(self.folder), puts=True)
            return self._run(reuse, unresolved or (lambda _: ()), quiet=quiet)

    @property
    def conditions(self) -> str:
        """Identity of all that decides the study's fits, save seeds, code and platform."""
        return self.study.conditions(self.data.digest, self.user_code)

    @property
    def folder(self) -> Path:
        """The study's own, under these conditions."""
        return self.settings.studies / f"{self.study.name}-{self.conditions}"

    def ledger(self, fits: Sequence[Fit]) -> Ledger:
        """What it takes to log some of the study's fits without training any; candidates are `ablate run`'s alone."""
        return Ledger(
            registration=self.registration,
            conditions=self.conditions,
            tags=self.tags,
            labels=self.data.test_labels,
            entries=tuple(
                Entry(
                    fit=fit,
                    digests=self.digests_of(fit),
                    tags=self.place(fit).tags,
                    folder=self.spool(fit).folder.name,
                )
                for fit in fits
                if self.place(fit).parent == self.parent
            ),
            candidates=tuple(self.spool(fit).folder.name for fit in fits if self.place(fit).parent != self.parent),
        )

    def _run(self, reuse: Reuse, unresolved: Unresolved, *, quiet: bool) -> StudyRecord:
        self._require_the_same_study(self.conditions)
        self.parent = self.store.register(self.registration, self.conditions, self.tags)
        complete = False
        try:
            with ExitStack() as stack:
                self._work(Work(self, stack, reuse, quiet=quiet), self.conditions, unresolved)
            ahead.let_go()
            complete = True
        finally:
            self._close(complete=complete)
        return self.store.read(self.study.name, run_id=self.parent)

    def _require_the_same_study(self, conditions: str) -> None:
        """Refuse to go on with a study whose arms or data are no longer those that were recorded."""
        recorded = {row["run_id"]: row["conditions"] for row in self.store.studies()} if self.goes_on else {}
        if self.goes_on and recorded.get(self.goes_on) != conditions:
            raise InvalidValue(
                f"{self.study.name} is recorded under other conditions than its file and data make today: its arms, "
                "its protocol or the data have changed since, so that new seeds would not be paired with the old "
                "ones. Run it anew with `ablate run`."
            )

    def _work(self, work: Work, conditions: str, unresolved: Unresolved) -> None:
        """Stage by stage: the arms under the shared recipe, and under their own where they are tuned."""
        setups, own = self.study.setups(), dict[str, Setup]()
        for number, seeds in enumerate(self.study.stages):
            self.begun = seeds
            self.store.add_seeds(self.parent, seeds)
            shared = fits_of(setups, seeds)
            if self.study.tuning and number == 0:
                own = self._tuned(work, self.study.tuning, conditions, shared)
            work.finish((*shared, *self._with_place(fits_of(own, seeds), setups)))
            if number + 1 < len(self.study.stages):
                open_claims = unresolved(self.store.read(self.study.name, run_id=self.parent))
                self.say(_look(number, self.study.stages, open_claims))
                if not open_claims:
                    return

    def _tuned(self, work: Work, tuning: Tuning, conditions: str, shared: Sequence[Fit]) -> dict[str, Setup]:
        """Every arm's setup as tuned; the first round is trained beside the fits under the shared recipe."""
        from studies.search import Search
        from studies.tuner import Tuner, values_of

        setups = self.study.setups()
        runs = {
            arm: self.store.begin_search(self.parent, arm, tuning, setup.recipe.epochs, self.tags)
            for arm, setup in setups.items()
        }
        folder = self.settings.runs / "tuning"
        folder.mkdir(exist_ok=True)
        journal = folder / f"{hashed([conditions, self.digests])}.log"
        searches = {arm: Search(tuning, setup, journal, arm) for arm, setup in setups.items()}
        tuner = Tuner(tuning, setups, searches, self.outcome)
        beside: tuple[Fit, ...] = tuple(shared)
        for each in tuner.rounds():
            candidates = with_donors(each.arms)
            served = {made: arm for fit, arm in each.arms.items() for made in from_first_donor(fit)} | dict(each.arms)
            for fit in candidates:
                self.places[fit] = _place_of_candidate(fit, served[fit], each.rung, runs[served[fit]], self.parent)
            work.finish((*beside, *candidates), news=f"tuning, rung {each.rung + 1} of {len(tuning.schedule)}")
            beside = ()
        chosen = {arm: tuner.chosen(arm) for arm in setups}
        for arm, best in chosen.items():
            self.store.end_search(
                runs[arm],
                tuner.best_so_far(arm),
                values_of(best),
                best.number if best else None,
                searches[arm].importance(),
            )
        if None in chosen.values():
            lost = ", ".join(arm for arm, best in chosen.items() if best is None)
            self.say(f"no candidate of {lost} gave a validation error: there is no answer under tuned recipes")
            return {}
        return self.study.ablation.tuned(setups, {arm: values_of(best) for arm, best in chosen.items()})

    def _with_place(self, tuned: Sequence[Fit], shared: Mapping[str, Setup]) -> Iterator[Fit]:
        """Fits under tuned recipes, save those whose recipe is the shared one: these are trained already."""
        for fit in tuned:
            if fit.setup != shared.get(fit.arm):
                self.places[fit] = Place(parent=self.parent, tags={"recipe": "tuned"}, label=f"{fit.arm}, tuned")
                yield fit

    def outcome(self, fit: Fit) -> Result:
        """What a fit that has ended gave: from its folder, else from the record."""
        found = self.spool(fit).result()
        if found is not None:
            return found
        kept = [trial for trial in self.store.ended("candidate") if trial.identity.fingerprint == fit.fingerprint]
        return self.store.result(kept[-1].run_id) if kept else self.result(fit)

    def _close(self, *, complete: bool) -> None:
        """End this start in the record.

        Raises:
            TrackingError: where the study is complete, but the store takes nothing any more.
        """
        try:
            self.store.close(self.parent, self._start(), self.data.test_labels, complete=complete)
        except StoreFault as error:
            left = (
                f"the tracking store {without_credentials(self.settings.tracking_uri)} does not take the study's end. "
                f"All results lie in {self.settings.trials}; `ablate sync {self.study.name}` logs what is missing."
            )
            if complete:
                raise TrackingError(left) from error
            self.say(left)

    def train(self, fits: Sequence[Fit], *, again: bool, quiet: bool) -> None:
        """Train fits that are not trained yet, and record them."""
        with self.bucket.needed() if self.bucket else nullcontext():
            self.ledger(fits).write(self.folder, self.bucket.of_study(self.folder) if self.bucket else None)
        costs = {arm: values["multiply_adds"] for arm, values in self.registration.properties.items()}
        ordered = longest_first(fits, costs)
        jobs = [
            Job(
                fit=fit,
                folder=self.spool(fit).folder,
                digests=self.digests_of(fit),
                donors=tuple(self.spool(donor).folder for donor in fit.donors),
                import_paths=self.study.import_paths,
                models=self.models,
                again=again,
            )
            for fit in ordered
        ]
        from studies.dispatch import dispatch

        rows = board.read(self.folder, self.settings.trials).rows
        with Progressing(rows, len(jobs), quiet=quiet) as view, Writer() as writer:
            dispatch(jobs, self.settings, self.resources, _Recorder(self, view, writer))

    def tell_plan(self, todo: Plan) -> None:
        """Put the plan onto the study's board, for whoever asks where it stands."""
        planned = [(fit, "ended") for fit in (*todo.recorded, *todo.spooled)]
        planned += [(fit, "reused") for fit, _ in todo.elsewhere] + [(fit, "train") for fit in todo.train]
        rows = [(self._row(fit), what) for fit, what in planned]
        planned_by = (self.study.name, self.study.protocol.name)
        board.write(self.folder, *planned_by, rows, self.settings.trials, begins=not self.has_told)
        self.has_told = True
        if self.bucket:
            with suppress(BucketFault):  # nothing is lost where nobody can be told
                self.bucket.of_study(self.folder).put(self.folder / "board.json")

    def _row(self, fit: Fit) -> board.Row:
        place = self.place(fit)
        return board.Row(
            arm=place.label,
            group=place.group,
            seed=fit.seed,
            epochs=fit.epochs,
            folder=self.spool(fit).folder.name,
            part="validation" if fit.tunes else "test",
        )

    def begin(self, fit: Fit) -> str:
        """A run in the record for a trial that starts now."""
        place = self.place(fit)
        return self.store.begin(place.parent, fit, self.identity(fit), {**self.tags, **place.tags})

    def log(self, run_id: str, fit: Fit, result: Result, *, curves: bool) -> None:
        """Record a trial's result; its curves as well, where they were not logged as it ran."""
        log(self.store, run_id, result, self.spool(fit), curves=curves)

    def give_up(self, job: Job, reason: str) -> Result:
        """The result of a trial that never came to one; kept in its folder, where that can be written."""
        lost = failed(job.fit.fingerprint, job.digests, reason)
        self.fetch_told(job.fit)
        try:
            lease = acquire(job.folder)
            if lease is None:
                return lost
            spool = replace(self.spool(job.fit), guard=lease.check)
            if not spool.has_ended:
                spool.write(lost)
            lease.release()
            return spool.result() or lost
        except OSError as error:
            self.say(f"{job.folder} takes no result ({error.strerror})")
            return lost

    def fetch_told(self, fit: Fit) -> None:
        """Have here what a trial has told that another node of the cluster may have trained."""
        if self.bucket and self.resources.address:
            with suppress(BucketFault):  # then it is logged by the next start
                self.bucket.of_trial(self.spool(fit).folder).fetch(*TOLD)

    def note_fault(self, fit: Fit, reason: str) -> None:
        """Keep in a trial's folder why an attempt came to nothing."""
        self.fetch_told(fit)  # the line is added to what is there
        self.spool(fit).note_fault(reason)

    def result(self, fit: Fit) -> Result:
        """The result in the folder of a trial that has ended."""
        spool = self.spool(fit)
        lost = f"{spool.folder} holds no result to read"
        return spool.result() or failed(fit.fingerprint, self.digests_of(fit), lost)

    def _start(self) -> Start:
        return started(self.began, (self.revision, self.clean), described(self.nodes, self.resources), self.begun)


def started(began: float, revision: tuple[str, bool], hardware: str, seeds: tuple[int, ...]) -> Start:
    """A start of a study, that began then and ends now, for the record."""
    return Start(
        time=datetime.fromtimestamp(began, UTC).isoformat(timespec="seconds"),
        command=command(),
        revision=revision[0],
        clean=revision[1],
        versions={"python": platform.python_version()} | {name: metadata.version(name) for name in REPORTED_VERSIONS},
        hardware=hardware,
        seeds=seeds,
        wall_seconds=round(time.time() - began, 1),
    )


def start_of_sync(seeds: tuple[int, ...]) -> Start:
    """An `ablate sync`, as it stands in the record among the study's starts."""
    return started(time.time(), git_revision(), "none: it logged, and trained nothing", seeds)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a fit stands in the record: below which run, with which tags, and how a person is told of it."""

    parent: str
    tags: Mapping[str, str]
    label: str

    @property
    def group(self) -> str:
        """With which trials a view counts it."""
        return f"{self.tags['search']}, rung {int(self.tags['rung']) + 1}" if "rung" in self.tags else self.label


def _place_of_candidate(fit: Fit, arm: str, rung: int, search: str, study: str) -> Place:
    tags = {"kind": "candidate", "search": arm, "candidate": str(fit.candidate), "rung": str(rung), OF_STUDY: study}
    return Place(parent=search, tags=tags, label=f"{fit.arm}, candidate {fit.candidate}")


@dataclass
class Work:
    """What is left of some fits, done: taken over, logged or trained. Ray is started once, when first needed."""

    driver: Driver
    stack: ExitStack
    reuse: Reuse
    quiet: bool = field(kw_only=True)
    started: bool = field(default=False, init=False)

    def finish(self, fits: Sequence[Fit], news: str = "") -> None:
        """See that every fit has ended and is recorded."""
        driver = self.driver
        todo = driver.plan(fits, self.reuse)
        driver.say(f"{news}: {describe(todo)}" if news else describe(todo))
        driver.tell_plan(todo)
        for fit, original in todo.elsewhere:
            place = driver.place(fit)
            driver.store.reuse(place.parent, fit, original, {**driver.tags, **place.tags})
        for fit in todo.spooled:
            driver.log(driver.begin(fit), fit, driver.result(fit), curves=True)
        if todo.train:
            ahead.wait()
            if not self.started:
                from studies.cluster import engine

                self.stack.enter_context(engine(driver.resources, driver.study.import_paths))
                self.started = True
            driver.train(todo.train, again=self.reuse == "none", quiet=self.quiet)


def _look(number: int, stages: Sequence[Sequence[int]], open_claims: Sequence[str]) -> str:
    """What a look found, in a line."""
    told = f"look {number + 1} of {len(stages)}, after {len(stages[number])} seeds: "
    if not open_claims:
        return told + "every claim is resolved"
    return told + f"{len(open_claims)} open, going on to {len(stages[number + 1])} seeds ({' '.join(open_claims)})"


class _Recorder(Watcher):
    """Shows and records what the trials report. What the store does not take is recorded from the spool later.

    ``runs``, ``logged``, ``missed`` and ``rests_until`` are the writer's, the others the dispatcher's: no thread waits
    for another.
    """

    def __init__(self, driver: Driver, view: Progressing, writer: Writer) -> None:
        self.driver, self.view, self.writer = driver, view, writer
        self.runs: dict[Fit, str] = {}
        self.logged: dict[Fit, set[int]] = {}
        self.missed: set[Fit] = set()
        self.rests_until = 0.0
        self.waiting: dict[Fit, list[Mapping[str, float]]] = {}
        self.logged_at: dict[Fit, float] = {}
        self.elsewhere: set[Fit] = set()

    def label(self, fit: Fit) -> str:
        """How the view names a fit."""
        return self.driver.place(fit).label

    def on_start(self, job: Job) -> None:
        self.view.started(job.folder.name)
        self.waiting.pop(job.fit, None)
        self._record(job.fit, lambda: self._begin(job.fit))

    def on_epoch(self, job: Job, values: Mapping[str, float], node: str) -> None:
        self.view.epoch(job.folder.name, values, node)
        self.elsewhere.discard(job.fit)
        self.waiting.setdefault(job.fit, []).append(values)
        if time.monotonic() - self.logged_at.get(job.fit, 0.0) > LOG_EVERY_SECONDS:
            self.logged_at[job.fit] = time.monotonic()
            epochs = self.waiting.pop(job.fit)
            self._record(job.fit, lambda: self._log(job.fit, epochs))

    def on_note(self, job: Job, text: str) -> None:
        self.view.note(f"{self.label(job.fit)}, seed {job.fit.seed}: {text}")

    def on_elsewhere(self, job: Job, who: str) -> None:
        if job.fit not in self.elsewhere:
            self.view.note(f"{self.label(job.fit)}, seed {job.fit.seed} is being trained by {who}: waiting for it")
        self.elsewhere.add(job.fit)

    def on_end(self, job: Job) -> None:
        self.driver.fetch_told(job.fit)
        self._ended(job, self.driver.result(job.fit))

    def on_fault(self, job: Job, reason: str, tries: int, most: int) -> None:
        told = _in_a_line(reason)
        self.driver.note_fault(job.fit, told)
        self.view.note(f"{self.label(job.fit)}, seed {job.fit.seed}: {told} (tried again: {tries + 1} of {most})")

    def on_lost(self, job: Job, reason: str) -> None:
        self.driver.note_fault(job.fit, _in_a_line(reason))
        self._ended(job, self.driver.give_up(job, reason))

    def _ended(self, job: Job, result: Result) -> None:
        epochs = self.waiting.pop(job.fit, [])
        self._record(job.fit, lambda: self._end(job.fit, result, epochs))
        error = result.metrics.get("validation_error" if job.fit.tunes else "test_error")
        self.view.finished(job.folder.name, result.status, error)

    def _begin(self, fit: Fit) -> None:
        self.runs[fit], self.logged[fit] = self.driver.begin(fit), set()

    def _log(self, fit: Fit, epochs: Sequence[Mapping[str, float]]) -> None:
        if fit in self.runs:
            self.driver.store.log_epochs(self.runs[fit], epochs)
            self.logged[fit].update(int(values["epoch"]) for values in epochs)

    def _end(self, fit: Fit, result: Result, epochs: Sequence[Mapping[str, float]]) -> None:
        """All of a trial that has ended; its curves at once where another process trained it, or some were missed."""
        if fit not in self.runs:
            self._begin(fit)
        self._log(fit, epochs)
        curves = fit in self.missed or self.logged[fit] != set(range(len(result.times)))
        self.driver.log(self.runs[fit], fit, result, curves=curves)

    def _record(self, fit: Fit, write: Callable[[], None]) -> None:
        self.writer.add(lambda: self._write(fit, write))

    def _write(self, fit: Fit, write: Callable[[], None]) -> None:
        if time.monotonic() < self.rests_until:
            self.missed.add(fit)
            return
        try:
            write()
        except StoreFault as error:
            if fit not in self.missed:
                told = without_credentials(_in_a_line(root_of(error)))
                self.view.note(
                    f"{self.label(fit)}, seed {fit.seed}: the store took not all ({told}); it is logged later"
                )
            self.missed.add(fit)
            self.rests_until = time.monotonic() + REST_SECONDS


def run(
    name: str,
    protocol: str = protocols.DEFAULT,
    *,
    seeds: int | Sequence[int] | None = None,
    overrides: Mapping[str, Leaf] | None = None,
    data_root: str | Path | None = None,
    runs: str | Path | None = None,
    tracking_uri: str | None = None,
    storage: str | Path | None = None,
    resources: Resources | None = None,
    reuse: Reuse = "matching",
    tuning: Tuning | int | None = None,
    looks: Sequence[int] = (),
    unresolved: Unresolved | None = None,
    quiet: bool = False,
    say: Callable[[str], None] | None = None,
) -> StudyRecord:
    """Run what is left of a study and give it back as recorded. Running it twice trains nothing the second time.

    Args:
        name: of an ablation, or the path of its file (``./my_ablation.py``).
        seeds: how many, or which; the same for every arm; the protocol's own by default.
        overrides: dotted paths and values, applied to every arm alike.
        data_root, runs, tracking_uri, storage: see :class:`studies.settings.Settings`.
        resources: what trials take, and where they run; one of this machine's cores each by default, or of the cluster
            at ``RAY_ADDRESS``.
        reuse: which ended trials are used again; see :func:`studies.planning.plan`.
        tuning: how every arm's recipe is tuned, beside the comparison under the shared one; or a number of candidates.
        looks: numbers of seeds of a sequential study, which stops at the first look that resolves its claims.
        unresolved: of a record, the claims that are still open: ``reports.unresolved``.
        quiet: show no progress.
        say: takes one line of news at a time; ``print`` by default.

    Raises:
        ValueError: for anything misdeclared; the text says what was given, what is expected and what to do.
        TrackingError: where the tracking store does not answer.
        KeyboardInterrupt: after a Ctrl-C; what had ended is recorded, and the next call goes on from there.
    """
    study = declare(name, protocol, seeds, overrides, tuning, looks)
    settings = Settings.of(runs, data_root, tracking_uri, storage)
    resources = resources or Resources(address=os.environ.get("RAY_ADDRESS", ""))
    with ahead.ray_ahead(study, settings, resources):
        driver = Driver(study, settings, resources, say or (_silent if quiet else _print))
        return driver.run(reuse, quiet=quiet, unresolved=unresolved)


def _in_a_line(reason: str) -> str:
    """The last line of a reason, which may be a traceback."""
    return textwrap.shorten((reason.strip().splitlines() or ["no reason given"])[-1], 200, placeholder=" ...")


def _name_of(setup: Setup) -> str:
    return setup.data.class_path if isinstance(setup.data, ForeignData) else setup.data.source


def describe(todo: Plan) -> str:
    """A plan in a sentence."""
    total = len(todo.recorded) + len(todo.elsewhere) + len(todo.spooled) + len(todo.train)
    if not todo.train:
        news = f"nothing to train: all {total} trials have ended"
    else:
        news = f"{len(todo.train)} of {total} trials to train"
    if todo.elsewhere:
        news += f"; {len(todo.elsewhere)} taken over from other studies"
    if todo.spooled:
        news += f"; {len(todo.spooled)} logged that were trained before"
    if todo.outdated:
        news += (
            f"; {len(todo.outdated)} of them are recorded as trained by other code, data or platform, "
            "and are trained again (--reuse any keeps those whose data and your own code are the same)"
        )
    return news


def user() -> str:
    """The user's name; their number where they have none, as in many containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def command() -> str:
    """The command line of this process, without the folder of the program and without credentials."""
    return without_credentials(shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]))


def git_revision() -> tuple[str, bool]:
    """The revision of this code, and whether the tree is clean; ``("unknown", False)`` outside a repository."""
    folder = Path(__file__).parent.parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=normal", "--", *FIRST_PARTY)
        return git("rev-parse", "--short=12", "HEAD"), not changed
    except (OSError, subprocess.CalledProcessError):
        return "unknown", False


def _print(news: str) -> None:
    sys.stdout.write(news + "\n")


def _silent(news: str) -> None:
    del news
