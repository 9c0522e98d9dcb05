"""What a study has found, as its own run in MLflow bears it."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from mlflow.entities import Metric

from studies.records.study_record import RecordedTrial, StudyRecord

MAX_METRIC_NAME_LENGTH = 250  # MLflow's limit
NOTE_TAG = "mlflow.note.content"  # MLflow's own: a run's description, as Markdown
NOTE_DIGEST_TAG = "findings.note"  # of the description as last written, to tell one that a user has edited
TRIALS_DIGEST_TAG = "findings.trials"  # of the trials that the findings are about


@dataclass(frozen=True, kw_only=True)
class StudyFindings:
    """What a study has found so far.

    Attributes:
        question: of the study; its run's description until there are findings.
        metrics: by name; those that are not finite are left out where they are logged.
        tags: by name.
        note: Markdown.
        num_ended: trials that the findings are about.
        trials_digest: of these trials and their outcomes.
    """

    question: str
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    note: str
    num_ended: int
    trials_digest: str

    def to_metrics(self, time_ms: int) -> list[Metric]:
        """The metrics as MLflow logs them, with the number of ended trials as the step."""
        finite = {name: value for name, value in self.metrics.items() if math.isfinite(value)}
        return [Metric(name, value, time_ms, self.num_ended) for name, value in finite.items()]

    def to_tags(self, present: Mapping[str, str], report_note: str) -> dict[str, str]:
        """The tags as MLflow logs them; a description that a user has written stays.

        Args:
            present: tags of the run.
            report_note: Markdown that says where the report is.
        """
        tags = {**self.tags, TRIALS_DIGEST_TAG: self.trials_digest}
        written = present.get(NOTE_TAG, "")
        is_ours = written in ("", self.question) or _digest(written) == present.get(NOTE_DIGEST_TAG)
        if is_ours:
            note = f"{self.note}\n\n{report_note}\n"
            tags |= {NOTE_TAG: note, NOTE_DIGEST_TAG: _digest(note)}
        return tags


FindingsOf = Callable[[StudyRecord], StudyFindings]


@dataclass(frozen=True, kw_only=True)
class LoggingOptions:
    """What a study's start logs beside its trials.

    Attributes:
        find: what a record has found: ``reports.pages.run_findings.describe_findings``; ``None`` to log no findings.
        log_models: whether the trained networks are logged as models.
        system_metrics: whether the load of this machine is logged.
    """

    find: FindingsOf | None = field(default=None, compare=False)
    log_models: bool = False
    system_metrics: bool = False


TRIALS_ALONE = LoggingOptions()


def digest_trials(trials: Iterable[RecordedTrial]) -> str:
    """A digest of which trials have ended, and how."""
    ended = sorted(f"{trial.run_id} {trial.state}" for trial in trials if trial.result)
    return _digest("\n".join(ended))


def to_metric_name(prefix: str, words: str) -> str:
    """A metric's name below a prefix; what MLflow does not take in a name becomes an underscore.

    MLflow's server writes metrics to files by their names, so that ``.`` and ``..`` are none. A name that is too long
    is cut, and ends in a digest of the whole.
    """
    plain = re.sub(r"[^\w. :-]", "_", words)
    if not plain.strip("."):
        plain = plain.replace(".", "_")
    name = f"{prefix}/{plain}"
    if len(name) <= MAX_METRIC_NAME_LENGTH:
        return name
    digest = _digest(words)
    return f"{name[: MAX_METRIC_NAME_LENGTH - len(digest) - 1]}-{digest}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
