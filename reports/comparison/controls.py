"""Verdicts on placebo arms: the reader's control of how the rule treats arms that do not differ."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ablations import Helps
from reports.analysis.placebos import select_arms
from reports.comparison.claims import judge_record
from reports.formatting import typeset_minus_signs
from studies.records.study_record import StudyRecord

REDRAWN_TEXTS = {
    "weights": "with other initial weights",
    "order": "with another order of the data",
    "augmentation": "with other draws of the augmentation",
}


@dataclass(frozen=True, kw_only=True)
class JudgedControl:
    """A placebo's verdict on the claim that it improves on the baseline, from these two arms alone.

    Attributes:
        redraws: the stream that it draws anew.
        word: as of a claim; ``supported`` and ``contradicted`` are false alarms.
        finding: one plain sentence, without its full stop.
    """

    arm: str
    baseline: str
    redraws: str
    word: str
    finding: str

    @property
    def is_false_alarm(self) -> bool:
        """Whether the verdict says that the baseline differs from itself."""
        return self.word in ("supported", "contradicted")

    @property
    def sentence(self) -> str:
        """What the control showed."""
        what = f"Control {self.arm}, which is {self.baseline} {REDRAWN_TEXTS.get(self.redraws, 'drawn anew')}"
        if self.is_false_alarm:
            return (
                f"{what}: a false alarm. {self.finding}. The two do not differ: chance alone does this in 5% of "
                "studies, and a difference of this size between other arms may be chance as well."
            )
        if self.word == "practically equivalent":
            return f"{what}: practically equivalent, as it should be. {self.finding}."
        return f"{what}: no difference found, as it should be. {self.finding}."


def judge_controls(record: StudyRecord) -> tuple[JudgedControl, ...]:
    """Judge every placebo against the baseline, by the rule of the claims and as the only claim of its study."""
    registration = record.registration
    controls = []
    for arm, redraws in registration.placebos.items():
        claim = Helps(arm=arm, over=registration.baseline)
        pair_record = select_arms(record, (registration.baseline, arm))
        pair_record = replace(pair_record, registration=replace(pair_record.registration, claims=(claim,)))
        (verdict,) = judge_record(pair_record, None)
        controls.append(
            JudgedControl(
                arm=arm,
                baseline=registration.baseline,
                redraws=redraws,
                word=verdict.word,
                finding=typeset_minus_signs(verdict.finding),
            )
        )
    return tuple(controls)
