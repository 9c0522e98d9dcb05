"""Provenance of a start: command, user, git revision, package versions, hardware."""

from __future__ import annotations

import platform
import shlex
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from studies.records.digests import FIRST_PARTY_PACKAGES
from studies.records.study_record import StudyStart
from studies.settings import INSTALL_ROOT, redact_credentials
from studies.tracking.ownership import user_name

# Distributions whose versions a report lists; those that decide a trial's bits are in its platform digest as well.
REPORTED_PACKAGES = ("torch", "torchvision", "pytorch-lightning", "ray", "mlflow", "numpy", "scipy", "scikit-learn")


COMMIT_LENGTH = 12  # of 40 hexadecimal digits


class Revision(NamedTuple):
    """Git revision of this code.

    Attributes:
        commit: abbreviated hash; ``unknown`` outside a repository.
        is_clean: whether the working tree has no changes.
        full_commit, branch, repository: whole hash, name of the branch and address of the remote repository; empty
            where there is none.
    """

    commit: str
    is_clean: bool
    full_commit: str = ""
    branch: str = ""
    repository: str = ""

    @property
    def mlflow_tags(self) -> dict[str, str]:
        """MLflow's own tags of the revision: a column of its interface, and a link where the repository is public."""
        tags = {"commit": self.full_commit, "branch": self.branch, "repoURL": self.repository}
        return {f"mlflow.source.git.{name}": value for name, value in tags.items() if value}


def make_study_start(
    started_at: float,
    revision: Revision,
    hardware: str,
    seeds: tuple[int, ...],
    *,
    code: str = "",
    claims: tuple[str, ...] | None = None,
    has_ended: bool = True,
) -> StudyStart:
    """Record of a start of a study.

    Args:
        started_at: seconds since 1970.
        hardware: of the nodes that train, in words.
        code: digest of the training code.
        claims: sentences of the claims that the ablation's file makes.
        has_ended: whether the start ends now, which gives its duration.
    """
    versions = {"python": platform.python_version()}
    for name in REPORTED_PACKAGES:
        versions[name] = metadata.version(name)
    return StudyStart(
        time=datetime.fromtimestamp(started_at, UTC).isoformat(timespec="microseconds"),
        command=command_line(),
        revision=revision.commit,
        clean=revision.is_clean,
        versions=versions,
        hardware=hardware,
        seeds=seeds,
        wall_seconds=round(time.time() - started_at, 1) if has_ended else None,
        user=user_name(),
        host=platform.node(),
        code=code,
        claims=claims,
    )


def make_sync_start(seeds: tuple[int, ...]) -> StudyStart:
    """Record of an `ablate sync`, which is listed among the study's starts."""
    return make_study_start(time.time(), git_revision(), "none: it logged, and trained nothing", seeds)


def command_line() -> str:
    """Command line of this process, without the program's folder and without credentials."""
    return redact_credentials(shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]))


def git_revision() -> Revision:
    """Git revision of the installed code, by its first-party packages alone."""
    try:
        full_commit, branch = _run_git("rev-parse", "HEAD", "--abbrev-ref", "HEAD").split()
        changes = _run_git("status", "--porcelain", "--untracked-files=normal", "--", *FIRST_PARTY_PACKAGES)
    except (OSError, subprocess.CalledProcessError):  # no git, or no repository: installed from a wheel
        return Revision("unknown", False)
    try:
        repository = redact_credentials(_run_git("config", "--get", "remote.origin.url"))
    except subprocess.CalledProcessError:  # no remote
        repository = ""
    return Revision(
        commit=full_commit[:COMMIT_LENGTH],
        is_clean=not changes,
        full_commit=full_commit,
        branch=branch if branch != "HEAD" else "",  # of a detached head
        repository=repository,
    )


def _run_git(*arguments: str) -> str:
    command = ["git", *arguments]
    completed = subprocess.run(command, cwd=INSTALL_ROOT, capture_output=True, text=True, check=True)
    return completed.stdout.strip()
