"""What a study needs to log its trials without its ablation, its data or a worker; and `ablate sync`, which does so."""

from __future__ import annotations

import json
import os
import tempfile
from _thread import interrupt_main
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lightning_modules.spec import SPEC_KINDS
from lightning_modules.values import did_you_mean, from_json, to_json
from studies import board
from studies.bucket import Twin, bucket_of
from studies.fits import Fit
from studies.leases import Beating, acquire, holder
from studies.packing import registration_from_json, registration_to_json
from studies.records import Identity, Registration, Start
from studies.results import SCHEMA, Result
from studies.settings import Settings, SettingsError, plain
from studies.spool import Mirror, Spool, replacing, require_schema
from studies.tracking import Store, answering


@dataclass(frozen=True, kw_only=True, eq=False)
class Entry:
    """A trial of a study, and where its folder is.

    Attributes:
        tags: of its run in the record, beside the study's.
        folder: its name among the trials' folders.
    """

    fit: Fit
    digests: Mapping[str, str]
    tags: Mapping[str, str]
    folder: str

    @property
    def identity(self) -> Identity:
        """What the record knows the trial by."""
        return Identity.of(self.fit.fingerprint, self.digests)

    def spool(self, settings: Settings) -> Spool:
        """Its folder."""
        return Spool(settings.trials / Path(self.folder).name)


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """A study under its conditions, with every trial that was ever planned: all that logging them takes.

    Attributes:
        tags: of the study and of each of its trials in the record.
        labels: true class of every test example.
        candidates: folders of fits that serve tuning; logging them is `ablate run`'s alone.
    """

    registration: Registration
    conditions: str
    tags: Mapping[str, str]
    labels: np.ndarray
    entries: tuple[Entry, ...]
    candidates: tuple[str, ...] = ()

    @property
    def newest(self) -> tuple[Entry, ...]:
        """Of each trial what was planned last: an older plan is of other code, data or platform."""
        return tuple({(each.fit.fingerprint, each.tags.get("recipe")): each for each in self.entries}.values())

    def write(self, folder: Path, mirror: Mirror | None = None) -> None:
        """Keep it in the study's folder, and its mirror, beside the trials that earlier starts planned."""
        folder.mkdir(parents=True, exist_ok=True)
        known = read(folder) if (folder / "study.json").exists() else replace(self, entries=())
        planned = {entry.folder: entry for entry in self.entries}
        entries = {each.folder: each for each in known.entries if each.folder not in planned} | planned  # newest last
        candidates = dict.fromkeys((*known.candidates, *self.candidates))
        with replacing(folder / "test_labels.npy", mirror=mirror) as partial, partial.open("wb") as file:
            np.save(file, self.labels.astype(np.uint16))
        with replacing(folder / "study.json", mirror=mirror) as partial:
            partial.write_text(
                json.dumps(_to_json(replace(self, entries=tuple(entries.values()), candidates=tuple(candidates))))
            )


def read(folder: Path) -> Ledger:
    """The ledger in a study's folder.

    Raises:
        UnreadableSchema: where another version of this package wrote it.
    """
    data = json.loads((folder / "study.json").read_text())
    require_schema(data, folder / "study.json")
    entries = (
        Entry(
            fit=Fit(arm=each["arm"], setup=from_json(each["setup"], SPEC_KINDS), seed=each["seed"]),
            digests=each["digests"],
            tags=each["tags"],
            folder=plain(each["folder"], f"a trial in {folder / 'study.json'}"),
        )
        for each in data["entries"]
    )
    return Ledger(
        registration=registration_from_json(data["registration"]),
        conditions=data["conditions"],
        tags=data["tags"],
        labels=np.load(folder / "test_labels.npy", allow_pickle=False),
        entries=tuple(entries),
        candidates=tuple(plain(name, f"a trial in {folder / 'study.json'}") for name in data.get("candidates", ())),
    )


def folders(settings: Settings) -> list[Path]:
    """Every study's folder, by name."""
    return sorted(file.parent for file in settings.studies.glob("*/study.json"))


def bring(settings: Settings) -> None:
    """Have here what a bucket holds of studies: their plans, and the results of their trials; without one, nothing.

    Studies that are being run here are left alone: their drivers keep both alike.

    Raises:
        SettingsError: where the bucket fails.
        UnreadableSchema: where another version of this package wrote a plan.
    """
    bucket = bucket_of(settings)
    if bucket is None:
        return
    with bucket.needed():
        for name in bucket.folders("studies"):
            if not holder(settings.studies / name):
                bring_plan(bucket.of_study(settings.studies / name))
        ledgers = [read(folder) for folder in folders(settings) if not holder(folder)]
        names = (name for each in ledgers for name in (*(entry.folder for entry in each.entries), *each.candidates))
        bucket.bring(settings.trials / name for name in names)


def bring_plan(twin: Twin, *, puts: bool = False) -> None:
    """Have a study's plan here that is there, beside what was planned here alone; and the board that is newer.

    Args:
        puts: have it there as well.
    """
    with tempfile.TemporaryDirectory() as temporary:
        there = Path(temporary)
        twin.fetch("test_labels.npy", "study.json", "board.json", into=there)
        if (there / "study.json").exists() and not _is_same(there / "study.json", twin.folder):
            read(there).write(twin.folder)
        if puts and (twin.folder / "study.json").exists() and not _is_same(there / "study.json", twin.folder):
            twin.put(twin.folder / "test_labels.npy")
            twin.put(twin.folder / "study.json")
        planned = board.planned_at(there)
        if planned > board.planned_at(twin.folder):
            twin.folder.mkdir(parents=True, exist_ok=True)
            with replacing(twin.folder / "board.json") as partial:
                partial.write_bytes((there / "board.json").read_bytes())
            os.utime(twin.folder / "board.json", (planned, planned))


def _is_same(file: Path, folder: Path) -> bool:
    other = folder / file.name
    return file.exists() and other.exists() and file.read_bytes() == other.read_bytes()


@contextmanager
def alone(folder: Path, study: str, on_lost: Callable[[], None]) -> Iterator[None]:
    """For as long as this lasts, nobody else runs or logs the study of a folder.

    Raises:
        SettingsError: where another process does.
    """
    lease = acquire(folder)
    if lease is None:
        raise SettingsError(
            f"{study} is being run under the same conditions by {holder(folder) or 'another process'}. "
            f"Wait for it, or follow it with `ablate status {study}`. Another study may run beside it."
        )
    with Beating(lease, on_lost):
        yield


def log(store: Store, run_id: str, result: Result, spool: Spool, *, curves: bool) -> None:
    """Record a trial's result, and how it came to it; its curves as well, where they were not logged as it ran."""
    if curves:
        store.log_curves(run_id, result)
    store.end(run_id, result, spool.attempts, spool.faults)


def sync(
    settings: Settings, name: str | None, start: Callable[[tuple[int, ...]], Start], say: Callable[[str], None]
) -> int:
    """Log what the store has missed, of one study or of all; trains nothing. Gives back how many trials it logged.

    Args:
        start: of some seeds, what the record keeps of this call.
        say: takes one line of news at a time.

    Raises:
        SettingsError: where there is no study of that name in the folder, or the bucket fails.
        UnreadableSchema: where one is named, or all are meant, that another version of this package wrote.
        TrackingError: where the store does not answer.
    """
    bring(settings)
    found = [(folder, read(folder)) for folder in folders(settings)]
    wanted = [(folder, ledger) for folder, ledger in found if name in (None, ledger.registration.study)]
    if not wanted:
        _refuse(settings, name, {ledger.registration.study for _, ledger in found})
    store = Store(settings)
    with answering(settings.tracking_uri):
        return sum(_sync_one(store, settings, folder, ledger, start, say) for folder, ledger in wanted)


def _refuse(settings: Settings, name: str | None, names: Iterable[str]) -> None:
    names = sorted(names)
    if name is None:
        raise SettingsError(f"{settings.studies} holds no study: nothing has been run with this folder yet.")
    raise SettingsError(
        f"{settings.studies} holds no study {name!r}.{did_you_mean(name, names)} "
        f"It holds: {', '.join(names) or 'nothing yet'}."
    )


def _sync_one(
    store: Store,
    settings: Settings,
    folder: Path,
    ledger: Ledger,
    start: Callable[[tuple[int, ...]], Start],
    say: Callable[[str], None],
) -> int:
    study = f"{ledger.registration.study} under {ledger.registration.protocol}"
    busy = holder(folder)
    if busy:
        say(f"{study}: {busy} runs it, and logs it")
        return 0
    with alone(folder, ledger.registration.study, on_lost=interrupt_main):
        results = {entry: entry.spool(settings).result() for entry in ledger.newest}
        ended = {entry: result for entry, result in results.items() if result is not None}
        closed = store.is_closed(ledger.registration.study, ledger.conditions)
        missed = _missed(store, closed, ended) if closed else ended
        if missed or not closed:
            parent = store.register(ledger.registration, ledger.conditions, ledger.tags, starts=False)
            missed = _missed(store, parent, ended)
            for entry, result in missed.items():
                run_id = store.begin(parent, entry.fit, entry.identity, {**ledger.tags, **entry.tags})
                log(store, run_id, result, entry.spool(settings), curves=True)
            seeds = tuple(sorted({entry.fit.seed for entry in ended}))
            store.close(parent, start(seeds), ledger.labels, complete=_is_complete(store, parent, ledger))
    say(f"{study}: {_told(ledger.registration.study, len(results), len(ended), len(missed))}")
    return len(missed)


def _missed(store: Store, parent: str, ended: Mapping[Entry, Result]) -> dict[Entry, Result]:
    """The trials whose result the record does not hold."""
    recorded = store.recorded(parent)
    return {entry: result for entry, result in ended.items() if (entry.identity, result.status) not in recorded}


def _is_complete(store: Store, parent: str, ledger: Ledger) -> bool:
    """Whether every arm has ended under every planned seed; of a study that tunes, `ablate run` alone can say."""
    record = store.read(ledger.registration.study, run_id=parent)
    cells = [record.of(arm, seed) for arm in record.registration.arms for seed in record.registration.seeds]
    return not record.registration.tuning and all(cell and cell.state != "running" for cell in cells)


def _told(study: str, planned: int, ended: int, logged: int) -> str:
    told = f"{logged} of {planned} trials logged now" if logged else "nothing to log"
    told += f", {ended - logged} were recorded before" if logged and ended > logged else ""
    told += f": all {planned} trials are recorded" if ended == planned and not logged else ""
    left = planned - ended
    return told + (f"; {left} of {planned} have not ended: `ablate run {study}` trains them" if left else "")


def _to_json(ledger: Ledger) -> dict[str, object]:
    return {
        "schema": SCHEMA,
        "registration": registration_to_json(ledger.registration),
        "conditions": ledger.conditions,
        "tags": dict(ledger.tags),
        "candidates": list(ledger.candidates),
        "entries": [
            {
                "arm": entry.fit.arm,
                "seed": entry.fit.seed,
                "setup": to_json(entry.fit.setup),
                "digests": dict(entry.digests),
                "tags": dict(entry.tags),
                "folder": entry.folder,
            }
            for entry in ledger.entries
        ],
    }
