"""Measured differences beside those of public replications; the intervals are those of scipy."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

import ablations
from ablations import FallsWith, ReplicatedError, Replication
from lightning_modules.specs.setup import Setup
from lightning_modules.specs.values import edit_fields
from reports.comparison.comparison import compare_arms
from reports.comparison.replications import (
    MeanTerm,
    compare_with_replications,
    judge_excess,
    measured_term,
    replicated_term,
    welch_interval,
)
from reports.content.replications import replications_table
from reports.figures.study import report_figures
from reports.formatting import Interval, format_contrast
from reports.renderers import markdown
from studies.records.serialization import registration_from_json, registration_to_json
from tests.reports.records import ARMS, record, registration

CIFAR = {"name": "cifar10", "form": "torchvision", "classes": 10, "train": 45_000, "test": 10_000, "digest": "d"}
HELD = {"scale.width": 1.0}


def replication(**values):
    return Replication(source="someone/resnet", recipe="theirs", differs="the data order", values=values)


def five_runs(mean, deviation=0.2):
    return ReplicatedError(mean=mean, deviation=deviation, num_runs=5)


def test_the_interval_of_two_means_is_welch_s():
    random = np.random.default_rng(0)
    ours, theirs = random.normal(9, 0.4, size=7), random.normal(8.5, 0.2, size=5)
    error = ReplicatedError(mean=theirs.mean(), deviation=theirs.std(ddof=1), num_runs=5)
    for level in (0.90, 0.95):
        expected = stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval(level)
        found = welch_interval(measured_term(ours), [replicated_term(error, sign=1)], alpha=1 - level)
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_an_assumed_spread_is_known():
    found = welch_interval(
        measured_term(np.array([1.0, 1.0])), [replicated_term(ReplicatedError(mean=0.5), sign=1)], alpha=0.1
    )
    assert found.high - found.value == pytest.approx(stats.norm.ppf(0.95) * 0.25)


def test_degrees_of_freedom_are_satterthwaite_s_over_all_means():
    terms = [MeanTerm(value=0.0, variance=variance, degrees_of_freedom=4) for variance in (0.01, 0.02, 0.03)]
    freedom = 0.06**2 / ((0.01**2 + 0.02**2 + 0.03**2) / 4)
    found = welch_interval(terms[0], terms[1:], alpha=0.05)
    assert found.high == pytest.approx(stats.t.ppf(0.975, freedom) * np.sqrt(0.06))


@pytest.mark.parametrize(
    ("narrow", "wide", "word"),
    [
        ((-0.6, 0.6), (-0.8, 0.8), "reproduces"),
        ((-0.6, 0.75), (-0.8, 0.9), "cannot tell"),
        ((0.75, 1.5), (0.65, 1.6), "cannot tell"),
        ((0.8, 1.5), (0.71, 1.6), "differs"),
        ((-1.5, -0.8), (-1.6, -0.71), "differs"),
    ],
)
def test_the_rule(narrow, wide, word):
    assert judge_excess(*(Interval(value=0.0, low=low, high=high) for low, high in (narrow, wide))) == word


def compared(errors, values, **fields):
    made = registration(
        ("A", "B"), errors.shape[1], data=CIFAR, held=HELD, replications=(replication(**values),), **fields
    )
    (found,) = compare_with_replications(made, errors, [("A", "B")])
    return found


def test_a_paired_difference_is_compared_with_the_difference_of_their_means():
    errors = 9 + np.array([[0.0, 0.3, -0.2, 0.1], [-1.5, -1.3, -1.6, -1.4]])
    found = compared(errors, {"A": five_runs(9.8), "B": five_runs(8.2)})
    assert found.replicated == pytest.approx(1.6)
    assert found.measured.value == pytest.approx(1.5)
    assert found.word == "reproduces"
    assert not found.is_spread_assumed
    assert compared(errors, {"A": five_runs(9.8), "B": five_runs(5.0)}).word == "differs"
    assert compared(errors, {"A": ReplicatedError(mean=9.8), "B": ReplicatedError(mean=8.0)}).is_spread_assumed


def test_two_pairs_and_unequal_losses_cannot_tell():
    values = {"A": five_runs(9.8), "B": five_runs(8.2)}
    errors = 9 + np.array([[0.0, 0.01, 0.02], [-1.6, -1.59, -1.58]])
    assert compared(errors, values).word == "reproduces"
    assert compared(errors[:, :2], values).word == "cannot tell"
    made = registration(("A", "B"), 3, data=CIFAR, held=HELD, replications=(replication(**values),))
    for num_lost, word in (((0, 1), "cannot tell"), ((1, 1), "reproduces")):
        (found,) = compare_with_replications(made, errors, [("A", "B")], num_lost)
        assert found.word == word


def test_one_seed_cannot_tell():
    found = compared(np.array([[9.0], [8.0]]), {"A": five_runs(9.8), "B": five_runs(8.2)})
    assert found.word == "cannot tell"
    assert not found.measured.is_bounded


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"data": CIFAR | {"form": "an image folder (JPEG)"}}, "other data"),
        ({"data": CIFAR | {"name": "digits", "form": "scikit-learn"}}, "other data"),
        ({"held": {"scale.width": 0.125}}, "other networks"),
    ],
)
def test_other_data_and_other_networks_are_not_judged(fields, word):
    made = registration(("A", "B"), 3, **{"data": CIFAR, "held": HELD, **fields})
    made = replace(made, replications=(replication(A=five_runs(9.8), B=five_runs(8.2)),))
    (found,) = compare_with_replications(made, np.array([[9.0, 9.1, 9.2], [8.0, 8.1, 8.3]]), [("A", "B")])
    assert found.word == word
    assert not found.excess.is_bounded


def test_levels_are_compared_only_where_nothing_differs():
    made = registration(("A", "B"), 3, data=CIFAR, held=HELD)
    same = replace(replication(A=five_runs(9.1), B=five_runs(8.1)), differs="")
    made = replace(made, replications=(same,))
    found = compare_with_replications(made, np.array([[9.0, 9.1, 9.2], [8.0, 8.1, 8.3]]), [("A", "B")])
    assert [(item.over, item.arm) for item in found] == [("", "A"), ("", "B"), ("A", "B")]
    assert found[0].replicated == 9.1


def test_the_report_shows_the_column_the_differences_and_the_sources():
    study = record(
        claims=(FallsWith(order=ARMS),),
        data=CIFAR,
        held=HELD,
        replications=ablations.load("depth").replications_for(SMALL),
    )
    comparison = compare_arms(study)
    text = markdown.render_report(comparison, report_figures(comparison))
    assert "| Replications, % |" in text
    assert "7.77 / 6.75 ± 0.16" in text
    assert "CIFAR Baselines (name of the repository inferred)" in text
    assert "standard deviation is assumed to be 0.25 points" in text
    contrasts = [row[0].text for row in replications_table(comparison).rows]
    assert contrasts[:3] == [format_contrast(*pair) for pair in ("AB", "BD", "DE")]


SMALL = edit_fields(Setup(network=ablations.load("depth").baseline.edits["network"]), {"scale.resolution": 32})


@pytest.mark.parametrize("name", ["depth", "residual", "degradation", "normalization", "vgg_against_resnet"])
def test_replications_are_registered_and_read_back(name):
    ablation = ablations.load(name)
    made = replace(registration(), replications=ablation.replications_for(SMALL))
    assert made.replications
    assert registration_from_json(json.loads(json.dumps(registration_to_json(made)))).replications == made.replications


def test_at_224_pixels_depth_and_residual_have_no_replication():
    large = edit_fields(SMALL, {"scale.resolution": 224})
    assert ablations.load("depth").replications_for(large) == ()
    assert ablations.load("residual").replications_for(large) == ()


def test_a_record_without_replications_keeps_its_json():
    assert "replications" not in registration_to_json(registration())
