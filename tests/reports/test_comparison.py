"""What a report says of a study. The records are made up: numbers for rendering only."""

from __future__ import annotations

import math
import sys
from dataclasses import replace

import pytest
from records import ARMS, TEST_EXAMPLES, changes, labels, record, registration, result, trial

from ablations import AllOf, Difference, DoesNotHelp, Helps
from reports.changes import compact, held_settings
from reports.comparison import agreement, compare
from reports.endpoints import values
from reports.numbers import Estimate, bracketed, decimals, duration, fixed, plus_minus, significant, typographic
from studies.records import StudyRecord


def edited(study: StudyRecord, arm: str, seed: int, **fields: object) -> StudyRecord:
    """The study with fields of one trial's result replaced."""
    trials = [
        replace(each, result=replace(each.result, **fields))
        if each.result and (each.arm, each.seed) == (arm, seed)
        else each
        for each in study.trials
    ]
    return replace(study, trials=tuple(trials))


def test_every_claim_gets_a_verdict_and_an_answer_to_its_source():
    compared = compare(record())
    assert [claim.word for claim in compared.claims] == ["inconclusive", "supported", "supported"]
    assert compared.claims[1].agreement == "agrees with Simonyan & Zisserman 2015, Sect. 4.1"
    assert compared.claims[0].agreement.startswith("cannot tell from this data")
    assert compared.claims[2].agreement == ""
    assert compared.answer == "Of 3 claims, 2 are supported and 1 is inconclusive."


def test_an_arms_difference_is_positive_where_its_error_is_lower():
    compared = compare(record())
    by_name = {arm.name: arm for arm in compared.arms}
    assert by_name["A"].difference is None
    assert by_name["B"].difference.estimate.value == pytest.approx(by_name["A"].error.value - by_name["B"].error.value)
    assert by_name["B"].difference.estimate.value > 0


def test_a_pair_of_arms_has_one_interval_and_unregistered_ones_are_marked():
    differences = compare(record()).differences
    pairs = [(each.over, each.arm) for each in differences]
    assert len(set(pairs)) == len(pairs)
    assert [(each.over, each.arm) for each in differences if not each.registered] == [("A", "D"), ("A", "E")]


def test_trained_names_what_did_not_train():
    study = record(states={("B", 3): "diverged", ("B", 4): "failed", ("D", 0): "running", ("E", 1): "absent"})
    trained = {arm.name: arm.trained for arm in compare(study).arms}
    assert trained["A"] == "5 of 5"
    assert trained["B"] == "3 of 5 (1 diverged, 1 failed)"
    assert trained["D"] == "4 of 4 (1 running)"
    assert trained["E"] == "4 of 4 (1 not started)"


def test_failures_end_with_the_last_line_of_the_traceback():
    (failure,) = compare(record(states={("D", 1): "failed"})).failures
    assert (failure.arm, failure.seed, failure.state, failure.why) == ("D", 1, "failed", "MemoryError: 12 GiB")


def test_no_finished_trial_is_said_so():
    compared = compare(record(trials=()))
    assert compared.answer == "No trial has finished with a test error, so there is nothing to compare yet."
    assert not compared.measured
    assert {claim.word for claim in compared.claims} == {"inconclusive"}
    assert "20 of 20 planned trials never started, or were deleted from the store." in compared.cautions


def test_one_seed_says_nothing_of_methods_but_speaks_of_the_networks():
    compared = compare(record(seeds=1))
    assert {claim.word for claim in compared.claims} == {"inconclusive"}
    assert any("One seed" in caution for caution in compared.cautions)
    assert all(not arm.error.bounded for arm in compared.arms)
    assert any("These two trained networks differ" in sentence for sentence in compared.limits)


def test_an_arm_without_a_figure_is_named():
    compared = compare(record(states={("E", seed): "absent" for seed in range(5)}))
    assert "No figure for E: nothing can be said of it." in compared.cautions
    assert math.isnan(compared.arms[3].error.value)


def test_a_test_error_that_is_not_a_number_counts_as_finished_without_a_figure():
    study = edited(record(), "B", 0, metrics={"test_error": math.nan})
    compared = compare(study)
    assert compared.arms[1].trained == "5 of 5 (1 without a figure)"
    assert compared.failures[0].state == "finished, no figure"
    assert compared.differences[0].pairs == 4


def test_one_arm_alone_has_nothing_to_be_compared_with():
    compared = compare(record(arms=("A",)))
    assert compared.differences == ()
    assert compared.answer == "No claim was registered: the differences are shown without a verdict."


def test_a_study_without_seeds_is_said_so():
    compared = compare(record(seeds=0))
    assert compared.answer.startswith("No trial has finished")


def test_shared_orders_and_weights_are_shown_as_kept():
    checks = {check.what: check for check in compare(record()).pairing}
    assert checks["Data order"].state == "kept"
    assert checks["Data order"].finding == "equal to the baseline's in every arm, under 5 seeds"
    assert checks["Initial weights of B"].finding == "8 of the 8 layers that B and A both have start equal"


def test_another_data_order_breaks_the_pairing_aloud():
    evidence = dict(record().of("D", 2).result.evidence) | {"order": "another"}
    compared = compare(edited(record(), "D", 2, evidence=evidence))
    checks = {check.what: check for check in compared.pairing}
    assert checks["Data order"].state == "broken"
    assert "The pairing is broken: data order is not the baseline's: D under seed 2." in compared.cautions


def test_another_augmentation_is_no_breach_where_the_arm_declares_it():
    declared = {"D": (Difference(path="recipe.augmentation", before="shift", after="none"),)}
    study = record(changes={arm: declared.get(arm, changes(arm)) for arm in ARMS})
    for seed in range(5):
        evidence = dict(study.of("D", seed).result.evidence) | {"augmentation": "none"}
        study = edited(study, "D", seed, evidence=evidence)
    checks = {check.what: check.state for check in compare(study).pairing}
    assert checks["Augmentation"] == "declared"


def test_arms_trained_by_different_code_are_never_mixed_silently():
    study = edited(record(), "E", 4, digests={"data": "da1a", "code": "0ther", "platform": "cpu-2"})
    (caution,) = compare(study).cautions
    assert caution.startswith("These trials were trained by different code")
    assert "0ther: E" in caution


def test_trials_outside_the_registration_are_left_out_and_counted():
    study = record()
    study = replace(study, trials=(*study.trials, trial("A", 17, 1.0), trial("Z", 0, 1.0)))
    compared = compare(study)
    assert len(compared.trials) == 20
    assert "2 trials of unregistered arms or seeds, or repeated: they are left out." in compared.cautions


def test_credentials_of_the_store_do_not_reach_the_report():
    study = replace(record(), tracking_uri="postgresql://me:secret@host/mlflow")
    assert compare(study).tracking == "postgresql://host/mlflow"


def test_a_bundle_names_what_moved():
    (bundle,) = compare(record()).claims[1].bundles
    assert bundle.startswith("A\u00a0→\u00a0B: bundle (weight layers 11 → 14; parameters 520 k → 611 k; multiply-adds ")
    assert bundle.endswith("; non-linearities 10 → 13)")


def test_claims_on_other_endpoints_are_judged_too():
    claims = (
        Helps(arm="B", over="A", endpoint="training_error"),
        Helps(arm="B", over="A", endpoint="time"),
        Helps(arm="B", over="A", endpoint="memory"),
        Helps(arm="B", over="A", endpoint="gradient_norm"),
        Helps(arm="B", over="A", endpoint="trainability"),
        AllOf(parts=(Helps(arm="B", over="A"), DoesNotHelp(arm="B", over="A", endpoint="time"))),
    )
    compared = compare(record(claims=claims))
    assert [claim.sentence.split(" in ")[1] for claim in compared.claims[:3]] == [
        "training error.", "training time.", "peak memory.",
    ]  # fmt: skip
    assert any("5% of the baseline's mean, 3.25 s" in note for note in compared.claims[1].notes)


@pytest.mark.parametrize(
    ("claim", "word", "begins"),
    [
        (Helps(arm="B", over="A", source="S"), "supported", "agrees with S"),
        (Helps(arm="B", over="A", source="S"), "contradicted", "contradicts S"),
        (
            Helps(arm="B", over="A", source="S"),
            "practically equivalent",
            "finds less than the smallest effect of interest of what S says",
        ),
        (DoesNotHelp(arm="B", over="A", source="S"), "practically equivalent", "agrees with S"),
        (Helps(arm="B", over="A", source="S"), "inconclusive", "cannot tell from this data"),
        (Helps(arm="B", over="A"), "supported", ""),
    ],
)
def test_a_verdict_agrees_contradicts_or_cannot_tell(claim, word, begins):
    assert agreement(claim, word).startswith(begins)


def test_equal_changes_of_several_places_become_one_line():
    (change,) = compact(changes("D"))
    assert (change.path, change.before, change.after) == ("network.stages.*.convs.*", "absent", "Conv(kernel=3)")
    assert change.places == ("0.1", "1.1", "2.2", "3.2", "4.2")


def test_a_single_change_keeps_its_place_in_the_path():
    (change,) = compact([Difference(path="network.stages.2.width", before=256, after=128)])
    assert (change.path, change.before, change.after, change.places) == ("network.stages.2.width", "256", "128", ())


def test_an_object_that_went_is_told_as_one():
    gone = [
        Difference(path="network.head.kind", before="Head", after=None),
        Difference(path="network.head.dropout", before=0.5, after=None),
    ]
    (change,) = compact(gone)
    assert (change.before, change.after) == ("Head(dropout=0.5)", "absent")


def test_held_settings_keep_their_values():
    told = {change.path: change.after for change in held_settings(registration().held)}
    assert told["recipe.learning_rate"] == "0.05"


def test_numbers_read_well():
    assert fixed(-0.4, 2) == "−0.40"
    assert fixed(-0.001, 2) == "0.00"
    assert fixed(1234.5, 1, sign=True) == "+1,234.5"
    assert fixed(math.nan, 2) == "–"
    assert significant(0.0123) == "0.0123"
    assert plus_minus(Estimate(value=27.314, low=26.9, high=27.728), 2) == "27.31 ± 0.41"
    assert bracketed(Estimate(value=0.42, low=-0.12, high=0.96), 2) == "+0.42 [−0.12, 0.96]"
    assert bracketed(Estimate(value=0.42), 2) == "+0.42"
    assert duration(2711) == "45 min"
    assert typographic("[-2.06, 1.46] of A-1") == "[−2.06, 1.46] of A-1"


@pytest.mark.parametrize(
    ("half_width", "places"), [(0.043, 3), (0.43, 2), (1.3, 1), (12.0, 0), (0.0, 1), (math.nan, 1)]
)
def test_digits_follow_the_width_of_the_interval(half_width, places):
    assert decimals([half_width]) == places


def test_the_same_record_gives_the_same_comparison():
    assert repr(compare(record())) == repr(compare(record()))


def test_no_engine_is_imported():
    assert result("A", 0, 1.0).status == "finished"
    assert labels().shape == (TEST_EXAMPLES,)
    import subprocess

    code = (
        "import sys, reports.compile; print(sorted({'torch', 'ray', 'mlflow', 'optuna', 'pandas'} & set(sys.modules)))"
    )
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert told.strip() == "[]"


def test_the_gradient_endpoint_is_the_first_layers_over_the_whole_training():
    study = record()
    curves = study.of("A", 0).result.curves
    first = curves["gradient_norm/stage1.conv1"]
    assert values(study, "gradient_norm")[0, 0] == pytest.approx(sum(first) / len(first))


def test_seeds_that_a_later_start_added_are_said():
    study = record()
    first = replace(study.starts[0], seeds=(0, 1, 2))
    later = replace(study.starts[0], seeds=(0, 1, 2, 3, 4))
    said = compare(replace(study, starts=(first, later))).cautions
    assert any("Start 2 added 2 seeds (3 and 4), when results could be seen" in caution for caution in said)


def test_credentials_of_a_store_are_not_reported():
    command = "ablate run depth --tracking-uri postgresql://bob:hun@ter2@db/mlflow?password=secret --seeds 5"
    study = record()
    study = replace(
        study,
        tracking_uri="postgresql://bob:hun@ter2@db/mlflow?password=secret",
        starts=(replace(study.starts[0], command=command),),
    )
    compared = compare(study)
    assert compared.tracking == "postgresql://db/mlflow"
    assert compared.starts[0].command == "ablate run depth --tracking-uri postgresql://db/mlflow --seeds 5"


def test_with_images_an_interval_is_never_narrower_than_over_seeds_alone():
    for difference in compare(record()).differences:
        if difference.crossed.bounded:
            assert difference.crossed.low <= difference.estimate.low
            assert difference.crossed.high >= difference.estimate.high


def test_a_claim_on_time_says_where_its_arms_ran_on_different_machines():
    study = record(claims=(Helps(arm="B", over="A", endpoint="time"),))
    environment = dict(study.of("B", 0).result.environment)
    moved = edited(study, "B", 0, environment=environment | {"device_name": "another machine"})
    notes = compare(moved).claims[0].notes
    assert any(note.startswith("not comparable: measured on different machines") for note in notes)
