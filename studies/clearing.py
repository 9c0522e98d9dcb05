"""What a runs folder holds that no study needs, and how it is freed: `ablate gc`.

What is needed: of every trial that a study plans, result and predictions (the record is made from them again if it is
lost), the checkpoint until the trial has finished or diverged, and the weights. A candidate's folder is needed until
its search is over. Nothing that anybody holds a lease on is touched, and what is freed is held by a lease of our own.
"""

from __future__ import annotations

import os
import platform
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from studies import leases
from studies.bucket import Bucket, Seen, bucket_of
from studies.records import Identity
from studies.results import Result
from studies.settings import Settings
from studies.spool import Spool, UnreadableSchema
from studies.syncing import Entry, Ledger, folders, read
from studies.tracking import Store

IN_FLIGHT_SECONDS = 600.0  # a temporary file younger than this may still be written
FORGOTTEN_SECONDS = 86400.0  # an interrupted trial that no study lists, and that nobody touched for so long
TEMPORARY = ("*.partial", ".lease-*", ".clock-*", ".seen-*", ".probe-*")

Kind = Literal["temporary file", "dead lease", "checkpoint", "weights", "trial folder", "scratch folder"]


@dataclass(frozen=True, kw_only=True)
class Waste:
    """A file or folder that no study needs.

    Attributes:
        folder: whose lease must be ours while it is freed; ``None`` where it has none.
        there: its place in the bucket, where it lies there; empty where it lies here.
    """

    path: Path
    kind: Kind
    why: str
    size: int
    folder: Path | None = None
    there: str = ""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A trial's folder, and what is known of it.

    Attributes:
        entry: the plan of a study that it belongs to; ``None`` where no study lists it.
        is_newest: whether it is what that study planned last for this trial.
    """

    folder: Path
    entry: Entry | None
    is_newest: bool
    result: Result | None

    @property
    def has_ended(self) -> bool:
        """Whether it has finished or diverged."""
        return self.result is not None and self.result.status != "failed"

    @property
    def identity(self) -> Identity | None:
        """What the record knows it by; ``None`` where only its plan or its result could tell, and there is none."""
        if self.entry:
            return self.entry.identity
        return Identity.of(self.result.fingerprint, self.result.digests) if self.result else None


@dataclass(frozen=True)
class Holdings:
    """A runs folder: what its studies plan, and the folders of trials that lie there.

    Attributes:
        unreadable: why a study's plan, or a trial's result, cannot be read; then nobody can say what is not needed.
    """

    settings: Settings
    ledgers: dict[Path, Ledger] = field(default_factory=dict)
    trials: dict[str, Trial] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, settings: Settings) -> Holdings:
        """Read what there is."""
        found = cls(settings)
        for folder in folders(settings):
            try:
                found.ledgers[folder] = read(folder)
            except (UnreadableSchema, OSError, ValueError, KeyError, TypeError) as error:
                found.unreadable.append(str(error) or f"{folder} cannot be read")
        for folder in settings.trials.glob("[!.]*"):
            if not folder.is_dir() or folder.is_symlink():
                continue
            try:
                found.trials[folder.name] = found.trial(folder, Spool(folder).result())
            except UnreadableSchema as error:
                found.unreadable.append(str(error))
        return found

    def trial(self, folder: Path, result: Result | None) -> Trial:
        """A trial's folder, as the studies know it."""
        entry = self.entries.get(folder.name)
        return Trial(folder=folder, entry=entry, is_newest=folder.name in self.newest, result=result)

    @cached_property
    def entries(self) -> dict[str, Entry]:
        """Every plan of a trial, by its folder's name."""
        return {each.folder: each for ledger in self.ledgers.values() for each in ledger.entries}

    @cached_property
    def newest(self) -> set[str]:
        """Names of the folders that were planned last for their trials."""
        return {each.folder for ledger in self.ledgers.values() for each in ledger.newest}

    @property
    def listed(self) -> set[str]:
        """Names of the folders that any study plans, or once planned."""
        return {each.folder for ledger in self.ledgers.values() for each in ledger.entries}

    @property
    def donors(self) -> set[str]:
        """Fingerprints of the fits that others start from, or test."""
        fits = (each.fit for ledger in self.ledgers.values() for each in ledger.newest)
        return {donor.fingerprint for fit in fits for donor in fit.donors}

    @property
    def candidates(self) -> dict[str, Ledger]:
        """The study of every candidate's folder."""
        return {name: ledger for ledger in self.ledgers.values() for name in ledger.candidates}

    def replaced_by(self, old: Trial) -> Trial | None:
        """The trial of the same setup and seed that was planned since, where there is one."""
        entry = old.entry
        if entry is None or old.is_newest:
            return None
        same = (
            newer
            for ledger in self.ledgers.values()
            if entry in ledger.entries
            for newer in ledger.newest
            if newer.fit.fingerprint == entry.fit.fingerprint
        )
        return self.trials.get(next((newer.folder for newer in same), ""))


def drivers(settings: Settings) -> list[leases.Holder]:
    """Who runs a study in a runs folder now."""
    found = (leases.holder(folder) for folder in settings.studies.glob("[!.]*") if folder.is_dir())
    return [holder for holder in found if holder]


def waste(
    settings: Settings, store: Store | None, *, weights: bool = False, say: Callable[[str], None]
) -> tuple[Waste, ...]:
    """All that no study needs, as seen now.

    Args:
        store: the record; without it, nothing is freed that only the record can tell is not needed.
        weights: the weights of ended trials as well, where no trial starts from them.
        say: hears why something is left alone that might not be needed.
    """
    holdings = Holdings.of(settings)
    found = [*_scratch(settings), *_small_things(settings)]
    for trial in holdings.trials.values():
        if trial.has_ended and Spool(trial.folder).checkpoint.exists() and not leases.holder(trial.folder):
            found.append(_file(Spool(trial.folder).checkpoint, "checkpoint", "its trial has ended"))
    for told in holdings.unreadable:
        say(f"{told} Folders and weights of trials are left alone until then.")
    running = drivers(settings)
    for driver in running:
        say(f"{driver} runs a study: folders and weights of trials are left alone until it has ended.")
    if holdings.unreadable or running:
        return tuple(found)
    whole = tuple(_folders(holdings, store))
    gone = {each.path for each in whole}
    found = [each for each in found if each.path.parent not in gone]
    if weights:
        found += [each for each in _weights(holdings, store) if each.path.parent not in gone]
    bucket = bucket_of(settings)
    if bucket:
        with bucket.needed():
            found += _in_bucket(bucket, holdings, store, weights=weights)
    return (*found, *whole)


def free(found: Iterable[Waste], settings: Settings) -> int:
    """Free it, each under a lease of our own where it has one to be held; gives back the bytes that were freed."""
    return sum(each.size for each in found if _freed(each, settings))


def _freed(each: Waste, settings: Settings) -> bool:
    if each.kind in ("trial folder", "weights") and drivers(settings):
        return False  # a study was started since it was looked at, and may need them
    if each.there:
        return _freed_there(each, settings)
    if each.folder is None:
        _remove(each.path)
        return True
    if not each.folder.exists():
        return False
    lease = leases.acquire(each.folder)
    if lease is None:
        return False
    if each.path != each.folder:
        _remove(each.path)
        lease.release()
        return True
    gone = each.path.with_name(f".gone-{secrets.token_hex(6)}")
    lease.check()
    each.path.rename(gone)  # at once: nobody finds half a trial
    _remove(gone)
    return True


def _freed_there(each: Waste, settings: Settings) -> bool:
    bucket = bucket_of(settings)
    if bucket is None or (each.folder and leases.holder(each.folder)):
        return False
    with bucket.needed():
        (bucket.delete_folder if each.kind == "trial folder" else bucket.delete)(each.there)
    return True


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _file(path: Path, kind: Kind, why: str) -> Waste:
    return Waste(path=path, kind=kind, why=why, size=size_of(path), folder=path.parent)


def _scratch(settings: Settings) -> Iterator[Waste]:
    """What a driver that died left: Ray's own, named by host and process; and folders that were half removed."""
    for path in settings.shared.glob("ray-*"):
        named = re.fullmatch(rf"ray-{re.escape(platform.node())}-(\d+)", path.name)
        if named and path.is_dir() and not Path(f"/proc/{named[1]}").exists():
            yield Waste(path=path, kind="scratch folder", why="its driver has ended", size=size_of(path))
    for path in settings.trials.glob(".gone-*"):
        yield Waste(path=path, kind="scratch folder", why="was being removed", size=size_of(path))


def _small_things(settings: Settings) -> Iterator[Waste]:
    """Files that were being written when their process died, and leases of the dead."""
    for path in (*settings.runs.glob(".probe-*"), *settings.trials.glob(".seen-*")):
        if _age(path) > IN_FLIGHT_SECONDS:
            yield Waste(path=path, kind="temporary file", why="left half written", size=size_of(path))
    for folder in _leased_folders(settings):
        if leases.holder(folder):
            continue
        for path in (path for pattern in TEMPORARY for path in folder.glob(pattern)):
            if _age(path) > IN_FLIGHT_SECONDS:
                yield _file(path, "temporary file", "left half written")
        if leases.expired(folder):
            for path in folder.glob("lease-*.json"):
                yield _file(path, "dead lease", "its process has ended")


def _leased_folders(settings: Settings) -> Iterator[Path]:
    for parent in (settings.trials, settings.studies):
        yield from (path for path in sorted(parent.glob("[!.]*")) if path.is_dir() and not path.is_symlink())


def _folders(holdings: Holdings, store: Store | None) -> Iterator[Waste]:
    """Whole folders of trials."""
    over = _searches_over(holdings, store)
    for trial in holdings.trials.values():
        why = "" if leases.holder(trial.folder) else _why_not_needed(trial, holdings, over, _age(trial.folder))
        if why:
            yield Waste(
                path=trial.folder, kind="trial folder", why=why, size=size_of(trial.folder), folder=trial.folder
            )


def _why_not_needed(trial: Trial, holdings: Holdings, searches_over: set[str], age_seconds: float) -> str:
    name = trial.folder.name
    if trial.entry is None and name in holdings.candidates:
        return "of a candidate whose search is over" if name in searches_over else ""
    if trial.entry is None:
        forgotten = trial.result is None and age_seconds > FORGOTTEN_SECONDS
        return "interrupted, and no study lists it" if forgotten else ""
    newer = holdings.replaced_by(trial)
    if newer is None or not newer.has_ended:
        return ""
    return "trained since by other code, data or platform"


def _searches_over(holdings: Holdings, store: Store | None) -> set[str]:
    """Folders of candidates of studies whose every search has told what it found."""
    if store is None or not holdings.candidates:
        return set()
    listed = holdings.listed
    over = {
        (ledger.registration.study, ledger.conditions): store.has_tuned(ledger.registration.study, ledger.conditions)
        for ledger in holdings.candidates.values()
    }
    return {
        name
        for name, ledger in holdings.candidates.items()
        if over[ledger.registration.study, ledger.conditions] and name not in listed
    }


def _weights(holdings: Holdings, store: Store | None) -> Iterator[Waste]:
    """Weights that no trial starts from, of trials whose result is recorded."""
    for trial in _without_heirs(holdings, store):
        file = Spool(trial.folder).weights
        if file.exists() and not leases.holder(trial.folder):
            yield _file(file, "weights", "no trial starts from them")


def _without_heirs(holdings: Holdings, store: Store | None) -> Iterator[Trial]:
    """Trials that have ended and are recorded, and that no trial starts from."""
    recorded = {each.identity for each in store.ended()} if store else set()
    donors = holdings.donors
    for trial in holdings.trials.values():
        identity = trial.identity
        if identity is not None and identity in recorded and identity.fingerprint not in donors and trial.has_ended:
            yield trial


def _in_bucket(bucket: Bucket, holdings: Holdings, store: Store | None, *, weights: bool) -> Iterator[Waste]:
    """What no study needs of a bucket; the results of all that is planned are known here, see `syncing.bring`."""
    over = _searches_over(holdings, store)
    heirless = {each.folder.name for each in _without_heirs(holdings, store)} if weights else set()
    for name, files in _by_folder(bucket.files("trials")).items():
        folder = holdings.settings.trials / name
        trial = holdings.trials.get(name) or holdings.trial(folder, None)
        if leases.holder(folder):
            continue
        written = time.time() if "result.json" in files else max(each.written for each in files.values()) / 1e9
        if why := _why_not_needed(trial, holdings, over, time.time() - written):
            yield _there(folder, files, "trial folder", why)
            continue
        if trial.has_ended and "checkpoint.ckpt" in files:
            yield _there(folder, files, "checkpoint", "its trial has ended", "checkpoint.ckpt")
        if name in heirless and "weights.pt" in files:
            yield _there(folder, files, "weights", "no trial starts from them", "weights.pt")


def _by_folder(files: Mapping[str, Seen]) -> dict[str, dict[str, Seen]]:
    found: dict[str, dict[str, Seen]] = {}
    for path, seen in files.items():
        folder, _, name = path.partition("/")
        found.setdefault(folder, {})[name] = seen
    return found


def _there(folder: Path, files: Mapping[str, Seen], kind: Kind, why: str, name: str = "") -> Waste:
    size = files[name].size if name else sum(each.size for each in files.values())
    there = f"trials/{folder.name}/{name}".rstrip("/")
    return Waste(path=folder / name, kind=kind, why=f"{why}; in the bucket", size=size, folder=folder, there=there)


def _age(path: Path) -> float:
    try:
        newest = max((each.lstat().st_mtime for each in (path, *path.glob("*"))), default=0.0)
    except OSError:
        return 0.0
    return time.time() - newest


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    if not path.is_dir() or path.is_symlink():
        return path.lstat().st_size if os.path.lexists(path) else 0
    return sum(file.lstat().st_size for file in path.rglob("*") if not file.is_dir() or file.is_symlink())


def told_size(size: float) -> str:
    """Bytes as a person reads them."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
