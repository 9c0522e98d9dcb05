"""Whether all is well here: installation, devices, data, runs folder, record, cluster; and what is left over."""

from __future__ import annotations

import platform
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from lightning_modules.values import Misuse
from studies import leases, protocols
from studies.bucket import bucket_of
from studies.clearing import Holdings, told_size, waste
from studies.fetching import is_read_from_a_folder, with_data
from studies.machine import cores, gpus, memory_gib
from studies.resources import Resources
from studies.results import SCHEMA
from studies.settings import Settings, without_credentials
from studies.tracking import RunSeen, Store, TrackingError, answering

PACKAGE = "ablation-studies"
LITTLE_SPACE, NO_SPACE = 5e9, 5e8  # bytes: a checkpoint of VGG-D at 224 pixels takes 1.1e9, and digits' 1e5
MOST_OPENED = 200  # runs whose files are looked for: each is a request to a server
DOWNLOADED = ("cifar10", "cifar100")
SHARED_FILE_SYSTEMS = ("nfs", "cifs", "smb", "lustre", "gpfs", "ceph", "glusterfs", "beegfs", "9p")

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing looked at.

    Attributes:
        of: part of the whole: ``installation``, ``devices``, ``data``, ``storage``, ``runs folder``, ``record``,
            ``left over``, ``cluster``.
        told: what was found.
        do: what to do about it; empty where nothing needs doing.
    """

    of: str
    level: Level
    told: str
    do: str = ""


def examine(settings: Settings, protocol: str | None, address: str = "") -> Iterator[Check]:
    """Look at everything, one check after the other.

    Args:
        protocol: whose data are read; none where no protocol is given.
        address: of a Ray cluster; empty for none.
    """
    yield from _safely("installation", installation)
    yield from _safely("devices", devices)
    if protocol is not None:
        yield from _safely("data", lambda: data(settings, protocol))
    yield from _safely("storage", lambda: storage(settings))
    yield from _safely("runs folder", lambda: runs_folder(settings))
    yield from _safely("record", lambda: record(settings))
    if address:
        yield from _safely("cluster", lambda: cluster(settings, address))


def _safely(of: str, look: Callable[[], Iterable[Check]]) -> Iterator[Check]:
    """Checks; one that itself comes to grief is an error, and the others go on."""
    try:
        yield from look()
    except (Misuse, TrackingError) as error:
        yield Check(of=of, level="error", told=str(error))
    except Exception as error:  # whatever is wrong here, is to be told
        yield Check(of=of, level="error", told=f"cannot be looked at: {type(error).__name__}: {error}")


# -- installation and devices --------------------------------------------------------------------------------------


def installation() -> Iterator[Check]:
    """Python and every package this one needs, against the ranges that it supports."""
    try:
        told = metadata.metadata(PACKAGE)
    except metadata.PackageNotFoundError:
        yield Check(of="installation", level="error", told=f"{PACKAGE} is not installed", do="call `make setup`")
        return
    yield _version_of("Python", platform.python_version(), SpecifierSet(told["Requires-Python"]))
    needed = [Requirement(text) for text in metadata.requires(PACKAGE) or ()]
    needed = [each for each in needed if each.marker is None or each.marker.evaluate({"extra": ""})]
    checks = [_package(each) for each in needed]
    yield from (check for check in checks if check.level != "ok")
    good = sum(check.level == "ok" for check in checks)
    yield Check(of="installation", level="ok", told=f"{good} of {len(checks)} packages are of supported versions")


def _package(needed: Requirement) -> Check:
    try:
        found = metadata.version(needed.name)
    except metadata.PackageNotFoundError:
        return Check(of="installation", level="error", told=f"{needed.name} is missing", do=f"pip install '{needed}'")
    return _version_of(needed.name, found, needed.specifier)


def _version_of(name: str, found: str, supported: SpecifierSet) -> Check:
    if supported.contains(found, prereleases=True):
        return Check(of="installation", level="ok", told=f"{name} {found}")
    told = f"{name} is {found}; supported is {supported}"
    do = "use a supported Python" if name == "Python" else f"pip install '{name}{supported}'"
    return Check(of="installation", level="error", told=told, do=do)


def devices() -> Iterator[Check]:
    """Cores, memory, and every GPU, on which something is computed."""
    yield Check(of="devices", level="ok", told=f"{cores()} CPU cores, {memory_gib():.0f} GiB of memory")
    import torch

    count = gpus()
    if not count and Path("/dev/nvidia0").exists():
        told = f"there is an NVIDIA GPU, but torch {torch.__version__} sees none"
        yield Check(of="devices", level="warning", told=told, do="install a driver and a torch that fit each other")
    elif not count:
        yield Check(of="devices", level="ok", told="no GPU: trials run on the CPU")
    for number in range(count):
        yield _gpu(number)


def _gpu(number: int) -> Check:
    import torch

    name = f"GPU {number}, {torch.cuda.get_device_name(number)}"
    try:
        ones = torch.ones(64, 64, device=f"cuda:{number}")
        right = bool((ones @ ones == 64).all())
        free, total = torch.cuda.mem_get_info(number)
    except RuntimeError as error:
        return Check(of="devices", level="error", told=f"{name} does not compute ({str(error).splitlines()[0]})")
    told = f"{name}: {free / 2**30:.0f} of {total / 2**30:.0f} GiB free"
    return Check(of="devices", level="ok" if right else "error", told=told if right else f"{name} computes wrongly")


def data(settings: Settings, protocol: str) -> Iterator[Check]:
    """What a protocol reads, read."""
    from lightning_modules.reading import inventory

    found = protocols.load(protocol)
    source = getattr(found.setup.data, "source", "")
    if settings.data_uri and is_read_from_a_folder(found.setup):
        settings.make()
        settings = with_data(settings)
    if source in DOWNLOADED and not any(settings.data_root.glob("*")):
        absent = f"{source} is not in {settings.data_root}"
        do = "the first `ablate run` downloads it; without a network, put it there or give --data-root"
        yield Check(of="data", level="warning", told=absent, do=do)
        return
    settings.make()
    try:
        told = inventory(found.setup, found.seeds, settings.data_root, settings.cache)
    except OSError as error:
        do = "give their folder with --data-root, and see that it can be read"
        yield Check(of="data", level="error", told=f"of {protocol}, in {settings.told_data}: {error}", do=do)
        return
    sizes = ", ".join(f"{count:,} for {part}" for part, count in told.sizes.items())
    yield Check(of="data", level="ok", told=f"{told.name}: {told.classes} classes; {sizes} ({told.form})")


# -- the runs folder -----------------------------------------------------------------------------------------------


def storage(settings: Settings) -> Iterator[Check]:
    """Whether the bucket takes and gives what it should."""
    bucket = bucket_of(settings)
    if bucket:
        bucket.require_writable()
        yield Check(of="storage", level="ok", told=f"{bucket.address} can be listed, read, written and cleared")


def runs_folder(settings: Settings) -> Iterator[Check]:
    """Whether it can be written, its room, and what the dead have left in it."""
    if not settings.runs.exists():
        told = f"there is no {settings.runs} yet"
        yield Check(of="runs folder", level="ok", told=f"{told}: the first `ablate run` makes it")
        return
    settings.make()
    yield _room(settings)
    yield from _beneath(settings)
    yield from _leases(settings)
    yield from _stored(settings)


def _room(settings: Settings) -> Check:
    disk = shutil.disk_usage(settings.shared)
    told = f"{settings.shared} can be written; {told_size(disk.free)} free"
    level: Level = "error" if disk.free < NO_SPACE else "warning" if disk.free < LITTLE_SPACE else "ok"
    do = "make room (`ablate gc`), or give another folder with --runs" if level != "ok" else ""
    return Check(of="runs folder", level=level, told=told, do=do)


def _beneath(settings: Settings) -> Iterator[Check]:
    """SQLite locks by the file system, which those of several hosts do badly."""
    kind = file_system_of(settings.database) if settings.database else ""
    if kind.startswith(SHARED_FILE_SYSTEMS):
        told = f"the record {settings.database} is SQLite's on {kind}, where its locks cannot be relied on"
        do = "record in an MLflow server (--tracking-uri http://...), or put the database on a local disk"
        yield Check(of="runs folder", level="warning", told=told, do=do)


def file_system_of(path: Path) -> str:
    """The kind of file system that a path lies on; empty where nothing tells."""
    try:
        lines = Path("/proc/self/mounts").read_text().splitlines()
    except OSError:
        return ""
    mounts = {line.split()[1].replace("\\040", " "): line.split()[2] for line in lines}
    return next((mounts[str(each)] for each in (path, *path.parents) if str(each) in mounts), "")


def _leases(settings: Settings) -> Iterator[Check]:
    for folder in sorted(path for path in settings.studies.glob("[!.]*") if path.is_dir()):
        study, driver = folder.name.rpartition("-")[0], leases.holder(folder)
        if driver:
            yield Check(of="runs folder", level="ok", told=f"{study} is being run by {driver}")
        elif leases.expired(folder):
            told = f"the driver of {study} died in the midst of it"
            do = f"`ablate run {study} ...` goes on from there; `ablate sync {study}` logs what had ended"
            yield Check(of="runs folder", level="warning", told=told, do=do)
    dead = sum(leases.expired(folder) for folder in settings.trials.glob("[!.]*") if folder.is_dir())
    if dead:
        told = f"{dead} trials were cut off: their processes ended without giving their leases back"
        yield Check(of="runs folder", level="ok", told=f"{told}; the next `ablate run` takes them over")


def _stored(settings: Settings) -> Iterator[Check]:
    """Whether everything stored can be read by this version, and what of it no study needs."""
    holdings = Holdings.of(settings)
    for told in holdings.unreadable:
        yield Check(of="runs folder", level="error", told=told)
    told = f"{len(holdings.ledgers)} studies, {len(holdings.trials)} folders of trials, schema {SCHEMA}"
    yield Check(of="runs folder", level="ok", told=told)
    known = holdings.listed | {*holdings.candidates}
    strangers = [name for name, trial in holdings.trials.items() if name not in known]
    if strangers:
        told = f"{len(strangers)} folders of trials are listed by no study here, such as {strangers[0]}"
        do = "their results are used if the same study is run again; if none is to be, delete them"
        yield Check(of="runs folder", level="warning", told=told, do=do)


# -- the record ----------------------------------------------------------------------------------------------------


def record(settings: Settings) -> Iterator[Check]:
    """Whether the store answers and is sound, and what in it was left half done."""
    if settings.database and not settings.database.exists():
        yield Check(
            of="record", level="ok", told=f"there is no {settings.database} yet: the first `ablate run` makes it"
        )
        return
    try:
        store = Store(settings, create=False)
    except TrackingError as error:
        yield Check(of="record", level="error", told=str(error), do=_to_upgrade(str(error), settings))
        return
    with answering(settings.tracking_uri):
        runs = store.runs()
        yield Check(of="record", level="ok", told=f"{settings.store} answers; it holds {_counted(runs)}")
        yield _of_version(settings, store)
        yield from _soundness(settings)
        readable = [run for run in runs if run.schema == str(SCHEMA)]
        yield from _schemas(runs)
        yield from _left_open(settings, readable)
        yield from _files(store, readable)
        yield from _against_the_folder(settings, readable)
        yield _left_over(settings, store)


def _counted(runs: Iterable[RunSeen]) -> str:
    kinds = [run.kind for run in runs]
    return f"{kinds.count('study')} studies, {kinds.count('fit')} trials, {kinds.count('candidate')} candidates"


def _to_upgrade(told: str, settings: Settings) -> str:
    out_of_date = "out-of-date database schema" in told or "Can't locate revision" in told
    return f"make a copy of it, then call `mlflow db upgrade {settings.store}`" if out_of_date else ""


def _of_version(settings: Settings, store: Store) -> Check:
    found, expected = store.versions()
    server = settings.tracking_uri.startswith("http")
    what = "MLflow server's version" if server else "database's tables are of version"
    if found == expected or (server and found.split(".")[0] == expected.split(".")[0]):
        return Check(
            of="record", level="ok", told=f"the {what} {found}, as MLflow {metadata.version('mlflow')} expects"
        )
    do = "use the same version on both sides" if server else _to_upgrade("out-of-date database schema", settings)
    return Check(of="record", level="warning", told=f"the {what} {found}; this MLflow expects {expected}", do=do)


def _soundness(settings: Settings) -> Iterator[Check]:
    if not settings.database:
        return
    connection = sqlite3.connect(f"file:{settings.database}?mode=ro", uri=True, timeout=20)
    try:
        found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    finally:
        connection.close()
    if found != "ok":
        do = "put a backup in its place; or move it away, and `ablate sync` makes a new one from the trials' folders"
        yield Check(of="record", level="error", told=f"{settings.database} is damaged ({found})", do=do)


def _schemas(runs: Iterable[RunSeen]) -> Iterator[Check]:
    others = [run for run in runs if run.schema != str(SCHEMA)]
    for schema in sorted({run.schema for run in others}):
        count = sum(run.schema == schema for run in others)
        newer = schema.isdecimal() and int(schema) > SCHEMA
        told = f"{count} runs are of schema {schema}, {'newer' if newer else 'older'} than this version's, {SCHEMA}"
        do = (
            "update this package to read them" if newer else "compile their reports with the version that recorded them"
        )
        yield Check(of="record", level="warning", told=told, do=do)


def _left_open(settings: Settings, runs: Iterable[RunSeen]) -> Iterator[Check]:
    """Studies and trials that the record shows as running, and nobody runs."""
    running = {run.run_id: run for run in runs}
    for run in runs:
        if run.kind == "":
            do = "delete it in `ablate ui`; the next `ablate run` registers the study anew"
            yield Check(of="record", level="warning", told=f"the registration of {run.name} was cut off", do=do)
        if run.kind == "study" and run.is_open and not _driver(settings, run):
            told = f"{run.name} stands as running, and nobody runs it in {settings.shared}"
            do = f"if no other machine does, `ablate sync {run.study}` closes it; `ablate run {run.study} ...` goes on"
            yield Check(of="record", level="warning", told=told, do=do)
    half = [
        run
        for run in runs
        if run.kind in ("fit", "candidate") and run.state == "running" and not _is_run(settings, run, running)
    ]
    if half:
        told = f"{len(half)} trials were logged in part, such as {half[0].study}: {half[0].name}"
        do = "`ablate sync` logs those that have ended; `ablate run` trains the others, and removes what is half"
        yield Check(of="record", level="warning", told=told, do=do)


def _driver(settings: Settings, run: RunSeen) -> leases.Holder | None:
    return leases.holder(settings.studies / f"{run.study}-{run.conditions}")


def _is_run(settings: Settings, run: RunSeen, runs: Mapping[str, RunSeen]) -> bool:
    return run.parent in runs and _driver(settings, runs[run.parent]) is not None


def _files(store: Store, runs: Iterable[RunSeen]) -> Iterator[Check]:
    """Runs that have ended, and whose files are not where they were put."""
    ended = [run for run in runs if run.kind == "fit" and run.state not in ("running", "")][-MOST_OPENED:]
    lost = [run for run in ended if not store.holds_result(run)]
    if lost:
        told = f"{len(lost)} of the last {len(ended)} trials have no result.json, such as in {lost[0].artifacts}"
        do = "put the files back; or delete the runs in `ablate ui`, and call `ablate sync`"
        yield Check(of="record", level="error", told=told, do=do)


def _left_over(settings: Settings, store: Store) -> Check:
    found = waste(settings, store, say=lambda _: None)
    size = sum(each.size for each in found)
    level: Level = "warning" if size > LITTLE_SPACE else "ok"
    told = f"no study needs {told_size(size)} of {settings.shared}" if found else "nothing to clear away"
    return Check(of="left over", level=level, told=told, do="`ablate gc` shows it, and frees it" if found else "")


def _against_the_folder(settings: Settings, runs: Iterable[RunSeen]) -> Iterator[Check]:
    """What lies in the folder and not in the record, and the other way round."""
    holdings = Holdings.of(settings)
    recorded = {(run.identity, run.state) for run in runs if run.kind == "fit"}
    for folder, ledger in holdings.ledgers.items():
        if leases.holder(folder):
            continue
        trials = (holdings.trials.get(entry.folder) for entry in ledger.newest)
        missing = sum(
            (trial.identity, trial.result.status) not in recorded for trial in trials if trial and trial.result
        )
        if missing:
            told = f"{missing} trials of {ledger.registration.study} have ended and are not recorded"
            do = f"`ablate sync {ledger.registration.study}`"
            yield Check(of="record", level="warning", told=told, do=do)
    kept = {trial.identity for trial in holdings.trials.values()}
    own = [run for run in runs if run.kind == "fit" and run.state in ("finished", "diverged")]
    absent = sum(run.identity not in kept for run in own)
    if absent and holdings.trials:
        told = f"{absent} of {len(own)} recorded trials have no folder in {settings.trials}"
        yield Check(
            of="record", level="ok", told=f"{told}: reports do not need it; who starts from one has it trained again"
        )


def cluster(settings: Settings, address: str) -> Iterator[Check]:
    """Whether the nodes of a Ray cluster answer, are alike, and see the runs folder."""
    from studies.cluster import survey
    from studies.resources import choose_ray

    choose_ray(address)
    settings.make()
    trials, bucket = [settings.trials], settings.bucket
    seen, made = ([], trials) if bucket else (trials, [])
    for node in survey(Resources(address=address), seen, made=made, bucket=bucket):
        told = f"{node.name}: {node.cpus:g} CPUs, {node.gpus:g} GPUs, {', '.join(node.model.values())}"
        place = f"writes to {without_credentials(bucket)}" if bucket else f"sees {settings.trials}"
        yield Check(of="cluster", level="ok", told=f"{told}; it {place}")
