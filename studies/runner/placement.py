"""Where a trial's run belongs in the tracking store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from studies.design.trial import Trial
from studies.tracking.runs import STUDY_RUN_TAG


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Parent run, tags and label of a trial's run.

    Attributes:
        tags: of the trial, beside the study's.
        label: of the trial in progress output, before its seed.
    """

    parent_run_id: str
    tags: Mapping[str, str]
    label: str

    @property
    def group(self) -> str:
        """Line of the progress display that counts the trial: its arm, or the rung of its search."""
        if "rung" in self.tags:
            return f"{self.tags['search']}, rung {int(self.tags['rung']) + 1}"
        return self.label


def candidate_placement(trial: Trial, arm: str, rung: int, search_run_id: str, study_run_id: str) -> Placement:
    """Placement of a candidate, or of a network that it starts from, below its search.

    Args:
        arm: whose search the candidate serves; the trial's own name differs if it is a source network.
        rung: of successive halving, from 0.
    """
    tags = {
        "kind": "candidate",
        "search": arm,
        "candidate": str(trial.candidate),
        "rung": str(rung),
        STUDY_RUN_TAG: study_run_id,
    }
    return Placement(parent_run_id=search_run_id, tags=tags, label=f"{trial.arm}, candidate {trial.candidate}")


def tuned_placement(trial: Trial, study_run_id: str) -> Placement:
    """Placement of a trial under the recipe that its arm was tuned to."""
    return Placement(parent_run_id=study_run_id, tags={"recipe": "tuned"}, label=f"{trial.arm}, tuned")
