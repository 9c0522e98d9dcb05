"""Seeded random damages to every kind of stored file, and what the commands that use it say of each.

Claim: no damage is accepted, none stops another trial or study, and every message names a file. ``--rounds 500`` takes
about six minutes on one core: ``python -m tests.faults.damage --rounds 500``. Exit code 1 if the claim does not hold.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import shutil
import sqlite3
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, Literal
from unittest import mock

from click.testing import CliRunner

from lightning_modules.stored_files import dump_json
from studies.cli.app import main as ablate
from studies.storage.lease import LeaseHolder
from studies.training.checkpoints import append_checksum

# accepted: used, and nothing said. unused: nothing that any command shows depends on the changed bytes.
Outcome = Literal["told", "made again", "unused", "ACCEPTED", "STOPPED OTHERS", "NO FILE NAMED", "CRASHED"]
BAD: tuple[Outcome, ...] = ("ACCEPTED", "STOPPED OTHERS", "NO FILE NAMED", "CRASHED")
SHORT = {"recipe.epochs": 2, "recipe.batch_size": 64, "scale.width": 0.0625}
DOCTOR = ("doctor", "--deep", "--protocol", "digits")


@dataclass(frozen=True)
class StoredKind:
    """A kind of stored file.

    Attributes:
        pattern: of its files below the runs folder.
        commands: that use it; every one must name a damaged file.
        is_one_trials: whether it belongs to one trial, so that all others of its study go on.
        may_be_absent: whether a sound folder may be without it.
    """

    pattern: str
    commands: tuple[tuple[str, ...], ...] = (DOCTOR,)
    is_one_trials: bool = False
    may_be_absent: bool = False


REPORT, SYNC, STATUS = ("report", "depth"), ("sync",), ("status",)
EXPORT = ("export", "depth", "-o", "out.zip", "--weights")
FROM_ARCHIVE = (("report", "depth.zip"), ("import", "depth.zip"))
LOGGED = "artifacts/depth/*/artifacts/"
KINDS = {
    "trial: result": StoredKind("trials/*/result.json", (DOCTOR, SYNC, EXPORT), True),
    "trial: predictions": StoredKind("trials/*/predictions.npy", (DOCTOR, SYNC, EXPORT), True),
    "trial: weights": StoredKind("trials/*/weights.pt", (DOCTOR, EXPORT), True, may_be_absent=True),
    "trial: checkpoint": StoredKind("trials/*/checkpoint.ckpt", (DOCTOR,), True, may_be_absent=True),
    "trial: attempts": StoredKind("trials/*/attempts.jsonl", (DOCTOR,), True),
    "trial: progress": StoredKind("trials/*/progress.json", (DOCTOR,), True, may_be_absent=True),
    "trial: lease": StoredKind("trials/*/lease-*.json", (DOCTOR,), True, may_be_absent=True),
    "search: journal": StoredKind("tuning/*.log", (DOCTOR,), may_be_absent=True),
    "study: manifest": StoredKind("studies/depth-*/study.json", (DOCTOR, SYNC, EXPORT)),
    "study: labels": StoredKind("studies/depth-*/test_labels.npy", (DOCTOR, SYNC, EXPORT)),
    "study: status": StoredKind("studies/depth-*/board.json", (DOCTOR, STATUS)),
    "logged: result": StoredKind(LOGGED + "result.json", (DOCTOR,), True),
    "logged: predictions": StoredKind(LOGGED + "predictions.npy", (DOCTOR,), True),
    "logged: setup": StoredKind(LOGGED + "setup.json", (DOCTOR,), True),
    "logged: registration": StoredKind(LOGGED + "registration.json", (DOCTOR, REPORT)),
    "logged: start": StoredKind(LOGGED + "starts/*.json", (DOCTOR, REPORT)),
    "logged: labels": StoredKind(LOGGED + "test_labels.npy", (DOCTOR, REPORT)),
    "logged: results table": StoredKind(LOGGED + "results.parquet", (DOCTOR, REPORT)),
    "logged: curves table": StoredKind(LOGGED + "curves.parquet", (DOCTOR,)),
    "cache: decoded images": StoredKind("cache/*/*.npy"),
    "cache: description": StoredKind("cache/*/about.json"),
    "archive": StoredKind("depth.zip", FROM_ARCHIVE),
    "database": StoredKind("mlflow.db", (DOCTOR, REPORT, ("status", "depth", "--record"))),
}


# -- damages ---------------------------------------------------------------------------------------------------------


def flip(file: Path, others: Sequence[Path], random: Random) -> None:
    """Flip one bit."""
    content = bytearray(file.read_bytes())
    content[random.randrange(len(content))] ^= 1 << random.randrange(8)
    file.write_bytes(content)


def cut(file: Path, others: Sequence[Path], random: Random) -> None:
    """Cut the file off somewhere."""
    content = file.read_bytes()
    file.write_bytes(content[: random.randrange(len(content))])


def swap(file: Path, others: Sequence[Path], random: Random) -> None:
    """Put another file of the same kind in its place; random bytes where there is no other that differs."""
    different = [other for other in others if other.read_bytes() != file.read_bytes()]
    if not different:
        return scramble(file, others, random)
    file.write_bytes(random.choice(different).read_bytes())
    return None


def scramble(file: Path, others: Sequence[Path], random: Random) -> None:
    """Replace the file by random bytes."""
    file.write_bytes(random.randbytes(random.choice((1, 100, 5000))))


def empty(file: Path, others: Sequence[Path], random: Random) -> None:
    """Leave nothing in the file."""
    file.write_bytes(b"")


def delete(file: Path, others: Sequence[Path], random: Random) -> None:
    """Delete the file."""
    file.unlink()


def forge(file: Path, others: Sequence[Path], random: Random) -> None:
    """Change a value and keep the form: a number of a JSON file, one byte of the numbers of any other."""
    if file.suffix not in (".json", ".jsonl"):
        content = bytearray(file.read_bytes())
        at = random.randrange(len(content) * 3 // 4, len(content))
        content[at] = (content[at] + 1) % 256
        file.write_bytes(content)
        return
    lines = file.read_text().splitlines() if file.suffix == ".jsonl" else [file.read_text()]
    data = json.loads(lines[0])
    leaves = [(holder, key) for holder, key in _leaves(data) if key != "checksum"]
    holder, key = random.choice(leaves)
    holder[key] = random.choice((-5, 0.5, 10**400, "forged", None, [], True, json.loads("[" * 200 + "]" * 200)))
    file.write_text("\n".join([json.dumps(data), *lines[1:]]) + ("\n" if file.suffix == ".jsonl" else ""))


def _leaves(data: Any) -> Iterator[tuple[Any, Any]]:
    pairs = data.items() if isinstance(data, dict) else enumerate(data)
    for key, value in list(pairs):
        if isinstance(value, (dict, list)):
            yield from _leaves(value)
        else:
            yield data, key


DAMAGES: tuple[Callable[[Path, Sequence[Path], Random], None], ...] = (
    flip, flip, flip, cut, cut, swap, forge, forge, scramble, empty, delete,
)  # fmt: skip


# -- the ground ------------------------------------------------------------------------------------------------------


def train_studies(runs: Path) -> None:
    """Train two small studies, so that there is another one that must go on."""
    import studies

    studies.run("depth", seeds=(0, 1), overrides=SHORT, runs=runs, quiet=True)
    studies.run("lrn", seeds=(0,), overrides=SHORT, runs=runs, quiet=True)


def prepare(runs: Path) -> None:
    """Add what an undisturbed study does not leave behind: a checkpoint, a lease, a search's journal, an archive."""
    import torch

    from studies.design.declare import declare
    from studies.design.tuning import TuningBudget
    from studies.runner.optuna_search import ArmSearch

    (plan,) = runs.glob("studies/depth-*/study.json")
    folders = sorted({entry["folder"] for entry in json.loads(plan.read_text())["entries"]})
    first, second, third = (runs / "trials" / name for name in folders[:3])
    for folder in (first, second):
        checkpoint = folder / "checkpoint.ckpt"
        torch.save({"schema": 1, "trial": folder.name, "state_dict": {"x": torch.ones(2000)}}, checkpoint)
        append_checksum(checkpoint)
    study = declare("lrn", "digits", 2, tuning=TuningBudget(trials=4))
    assert study.tuning
    (runs / "tuning").mkdir()
    search = ArmSearch(study.tuning, study.setups()["A"], runs / "tuning" / "search.log", "A")
    for candidate in search.first_candidates(4):
        search.tell(candidate.number, 10.0 + candidate.number)
    holder = replace(LeaseHolder.of_this_process(), born="1")  # a process that ended
    (third / "lease-000001.json").write_bytes(dump_json(vars(holder)))
    call(("export", "depth", "-o", "depth.zip", "--weights"), runs)


def call(command: Sequence[str], runs: Path) -> str:
    """Run a command in this process; returns all that it prints, and the exception that it did not translate."""
    arguments = [str(runs / word) if word.endswith(".zip") else word for word in command]
    lines: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    try:
        shown = CliRunner().invoke(ablate, [*arguments, "--runs", str(runs)], input="n\n")
    finally:
        logging.getLogger().removeHandler(handler)
    return "\n".join([shown.output, *(line for line in lines if "moved or copied" not in line)])


@contextmanager
def without_pages() -> Iterator[None]:
    """Compare arms and print cautions and answers instead of drawing pages: they take two seconds each."""
    from reports.comparison.comparison import compare_arms
    from studies.cli.reporting.reports import CompiledReport

    def compile_report(record: Any, *_: Any, **__: Any) -> CompiledReport:
        comparison = compare_arms(record)
        errors = record.metric_table().tolist()
        return CompiledReport(
            comparison, Path("\n".join((f"{len(record.trials)} trials", *comparison.cautions, str(errors))))
        )

    with (
        mock.patch(
            "studies.cli.reporting.reports._compile_named_report", lambda _, record, *__, **___: compile_report(record)
        ),
        mock.patch("reports.pages.study.report_files", return_value={}),
    ):
        yield


# -- rounds ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Round:
    """One damage: to which file, how, and what came of it."""

    number: int
    kind: str
    damage: str
    file: str
    outcome: Outcome
    detail: str = ""

    def __str__(self) -> str:
        return f"round {self.number}: {self.kind}, {self.damage}, {self.file}: {self.outcome} {self.detail}".rstrip()


def run_rounds(base: Path, rounds: int, seed: int, tell: Callable[[Round], None] = lambda _: None) -> list[Round]:
    """Damage a copy of a prepared runs folder in every round, and judge what the commands say.

    Args:
        base: prepared by :func:`prepare`.
        tell: receives every round as it ends.
    """
    outcomes = []
    names = list(KINDS)
    Random(seed).shuffle(names)
    with without_pages(), tempfile.TemporaryDirectory(prefix="damage-") as temporary:
        folder = Path(temporary).resolve() / "runs"
        usual: dict[tuple[str, ...], str] = {}
        for number in range(rounds):
            kind = names[number % len(names)]
            for command in KINDS[kind].commands:
                if command not in usual:
                    with copied(base, folder):
                        usual[command] = _comparable(call(command, folder))
            with copied(base, folder):
                outcome = _run_round(folder, number, kind, Random(f"{seed} {number}"), usual)
            tell(outcome)
            outcomes.append(outcome)
    return outcomes


@contextmanager
def copied(base: Path, folder: Path) -> Iterator[None]:
    """A copy of the base, for one round."""
    shutil.copytree(base, folder)
    try:
        yield
    finally:
        shutil.rmtree(folder)


def _run_round(folder: Path, number: int, kind_name: str, random: Random, usual: dict[tuple[str, ...], str]) -> Round:
    kind = KINDS[kind_name]
    (plan,) = folder.glob("studies/depth-*/study.json")
    planned = {entry["folder"] for entry in json.loads(plan.read_text())["entries"]}
    files = sorted(
        file for file in folder.glob(kind.pattern) if "trial: " not in kind_name or file.parent.name in planned
    )
    damage = random.choice([each for each in DAMAGES if not (kind.may_be_absent and each is delete)])
    if kind_name == "trial: result" and damage is delete:
        # A trial with a checkpoint and no result was interrupted, and goes on from there.
        files = [file for file in files if not file.with_name("checkpoint.ckpt").exists()]
    file = random.choice(files)
    if file.suffix == ".db":
        damage = random.choice((flip, flip, flip, cut, scramble, forge_tag))
    damage(file, [other for other in files if other != file], random)

    def outcome(word: Outcome, detail: str = "") -> Round:
        return Round(number, kind_name, damage.__name__, str(file.relative_to(folder)), word, detail)

    num_told = num_changed = 0
    for command in kind.commands:
        shown = call(command, folder)
        news = [line for line in shown.splitlines() if _comparable(line) not in usual[command].splitlines()]
        names_file = any(str(file) in line or _is_named(file, folder, line) for line in news)
        if "Traceback" in shown or "--debug" in shown:
            return outcome("CRASHED", f"{' '.join(command)}: {shown[-300:]}")
        num_told += names_file
        num_changed += bool(news)
        if news and not names_file:
            return outcome("NO FILE NAMED", f"{' '.join(command)}: {news[:3]}")
        is_whole = kind_name in ("archive", "database")  # whose bytes are in part used by nothing
        if not names_file and not is_whole:
            return outcome("ACCEPTED", f"{' '.join(command)} says nothing of it")
    if not num_told:
        return outcome("unused")
    if kind_name == "database" and num_told < num_changed:
        return outcome("NO FILE NAMED")
    stopped = _find_stopped(kind_name, folder)
    if stopped:
        return outcome("STOPPED OTHERS", stopped)
    is_remade = kind_name.startswith("cache")
    return outcome("made again" if is_remade else "told")


def forge_tag(file: Path, others: Sequence[Path], random: Random) -> None:
    """Change a tag of a run that reports read, as one can in MLflow's interface."""
    names = ("arm", "seed", "status", "fingerprint", "data", "code", "platform", "attempts", "recipe")
    with sqlite3.connect(file) as connection:
        rows = connection.execute(
            f"SELECT run_uuid, key FROM tags WHERE key IN ({', '.join('?' * len(names))}) ORDER BY 1, 2", names
        ).fetchall()
        run_id, key = random.choice(rows)
        value = random.choice(("forged", "7", "", "A"))
        connection.execute("UPDATE tags SET value = ? WHERE run_uuid = ? AND key = ?", (value, run_id, key))
    connection.close()


def _is_named(file: Path, folder: Path, line: str) -> bool:
    """Whether a line names a file by what stands for it: its folder for the cache, the database by its address."""
    if "cache" in file.relative_to(folder).parts:
        return str(file.parent) in line
    return file.name == "test_labels.npy" and str(file.parent / "study.json") in line


def _find_stopped(kind_name: str, folder: Path) -> str:
    """What no longer goes on although it has nothing to do with the damage; empty where all does."""
    if kind_name in ("database", "archive"):
        return ""
    if (folder / "artifacts" / "lrn").exists():
        other = call(("report", "lrn"), folder)
        if "trials" not in other.splitlines()[0]:
            return f"report lrn: {other[:200]}"
    own = call(REPORT, folder)
    num_trials = own.split(" trials")[0].splitlines()[-1] if " trials" in own else ""
    if KINDS[kind_name].is_one_trials and (not num_trials.isdecimal() or int(num_trials) < 7):
        return f"report depth: {own[:200]}"
    return ""


def _comparable(text: str) -> str:
    """Output without what differs from call to call."""
    return re.sub(r"\d+(\.\d+)? (GB|MB|kB)|\d{4}-\d\d-\d\dT[\d:.+]+|\d+ (ms|s)\b", "...", text)


def as_table(outcomes: Sequence[Round]) -> str:
    """Outcomes per kind, in Markdown."""
    words: tuple[Outcome, ...] = ("told", "made again", "unused", *BAD)
    lines = [f"| stored | damages | {' | '.join(words)} |", f"|---|{'---|' * (len(words) + 1)}"]
    for kind in (*KINDS, "all"):
        counts = Counter(each.outcome for each in outcomes if kind in (each.kind, "all"))
        lines.append(f"| {kind} | {counts.total()} | {' | '.join(str(counts[word]) for word in words)} |")
    return "\n".join(lines)


def main() -> int:
    """Run rounds, print what was not in order, and a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.damage", description=__doc__)
    parser.add_argument("--rounds", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--base", type=Path, help="runs folder of the two studies, made there if it does not exist")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="damage-base-") as temporary:
        base = asked.base or Path(temporary) / "runs"
        if not base.exists():
            train_studies(base)
            prepare(base)
        outcomes = run_rounds(base, asked.rounds, asked.seed, _print_bad)
    print(as_table(outcomes))
    return 1 if any(each.outcome in BAD for each in outcomes) else 0


def _print_bad(outcome: Round) -> None:
    if outcome.outcome in BAD:
        print(outcome, flush=True)


if __name__ == "__main__":
    sys.exit(main())
