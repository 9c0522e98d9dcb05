"""Placebo arms in a report: a verdict of their own, and no effect on any other."""

from dataclasses import replace

import numpy as np
import pytest

from ablations import Difference, FallsWith
from reports.comparison.comparison import compare_arms
from reports.content.report import report_sections
from reports.figures.study import report_figures
from reports.renderers import markdown
from tests.reports.records import ARMS, record, trial

CLAIMS = (FallsWith(order=ARMS),)


def with_placebo(shift=0.0, redraws="weights", **evidence):
    """The made-up study with the baseline's results again, each a little different and shifted."""
    plain = record(claims=CLAIMS)
    errors = dict(zip(range(5), plain.metric_table()[0], strict=True))
    random = np.random.default_rng(3)
    added = []
    for seed, error in errors.items():
        made = trial("placebo", seed, float(error + shift + random.normal(0, 0.1)))
        added.append(replace(made, result=replace(made.result, evidence=made.result.evidence | evidence)))
    changes = (
        Difference(path="redraws", before="none", after=redraws),
        Difference(path="redraw_name", before="none", after="placebo"),
    )
    registration = plain.registration
    return replace(
        plain,
        trials=(*plain.trials, *added),
        registration=replace(
            registration,
            arms=(*registration.arms, "placebo"),
            changes={**registration.changes, "placebo": changes},
            built={**registration.built, "placebo": ()},
            properties={**registration.properties, "placebo": registration.properties["A"]},
        ),
    )


def test_a_placebo_changes_no_verdict_and_no_interval():
    plain, controlled = compare_arms(record(claims=CLAIMS)), compare_arms(with_placebo())
    assert controlled.claims == plain.claims
    assert controlled.answer == plain.answer
    assert [item for item in controlled.differences if not item.is_control] == list(plain.differences)
    assert controlled.sensitivity == plain.sensitivity
    (control,) = [item for item in controlled.differences if item.is_control]
    assert (control.over, control.arm, control.is_registered) == ("A", "placebo", False)


def test_an_equal_placebo_is_as_it_should_be():
    comparison = compare_arms(with_placebo())
    (control,) = comparison.controls
    assert control.word == "practically equivalent"
    assert "which is A with other initial weights: practically equivalent, as it should be." in control.sentence
    assert not any("false alarm" in caution for caution in comparison.cautions)


@pytest.mark.parametrize("shift", [-2.0, 2.0])
def test_a_difference_from_itself_is_a_false_alarm_that_is_told_first(shift):
    comparison = compare_arms(with_placebo(shift))
    assert comparison.controls[0].is_false_alarm
    assert "a false alarm" in comparison.cautions[0]
    assert "chance alone does this in 5% of studies" in comparison.cautions[0]


def test_the_report_marks_the_control():
    comparison = compare_arms(with_placebo())
    figures = report_figures(comparison)
    text = markdown.render_report(comparison, figures)
    assert "Control placebo, which is A" in text
    assert "† control: the baseline again" in text
    assert report_sections(comparison, figures)


@pytest.mark.parametrize(
    ("redraws", "evidence", "subjects"),
    [
        ("order", {"order": "another", "augmentation": "another"}, ("Data order", "Augmentation")),
        ("augmentation", {"augmentation": "another"}, ("Augmentation",)),
    ],
)
def test_the_redrawn_stream_is_declared_and_no_other(redraws, evidence, subjects):
    checks = {
        check.subject: check for check in compare_arms(with_placebo(redraws=redraws, **evidence)).integrity_checks
    }
    assert all(checks[subject].state == "declared" for subject in subjects)
    other = compare_arms(with_placebo(redraws="weights", **evidence)).integrity_checks
    assert any(check.subject == subjects[0] and check.state == "broken" for check in other)
