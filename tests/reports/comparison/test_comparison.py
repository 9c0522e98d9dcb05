"""What a report says of a study. The records are made up: numbers for rendering only."""

from __future__ import annotations

import math
import sys
from dataclasses import replace

import pytest

from ablations import AllOf, Difference, DoesNotHelp, Helps
from reports.analysis.endpoints import endpoint_values
from reports.analysis.setting_changes import collapse_changes, collapse_held_settings
from reports.comparison.claims import describe_agreement
from reports.comparison.comparison import compare_arms
from reports.content.report import report_sections
from reports.content.sections.citation import describe_methods
from reports.figures.seeds import error_decimals
from reports.formatting import (
    NO_INTERVAL,
    SCIENTIFIC,
    Interval,
    choose_decimals,
    clip_interval,
    decimals_off_zero,
    format_duration,
    format_fixed,
    format_interval,
    format_plus_minus,
    format_significant,
    typeset_minus_signs,
)
from studies.records.registration_log import RegistrationCheck, RegistrationEntry
from studies.records.study_record import StudyRecord
from tests.reports.records import ARMS, TEST_EXAMPLES, changes, labels, record, registration, result, trial


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
    compared = compare_arms(record())
    assert [claim.word for claim in compared.claims] == ["inconclusive", "supported", "supported"]
    assert compared.claims[1].agreement == "agrees with Simonyan & Zisserman 2015, Sect. 4.1"
    assert compared.claims[0].agreement.startswith("cannot tell from this data")
    assert compared.claims[2].agreement == ""
    assert compared.answer == "Of 3 claims, 2 are supported and 1 is inconclusive."


def test_an_arms_difference_is_positive_where_its_error_is_lower():
    compared = compare_arms(record())
    by_name = {arm.name: arm for arm in compared.arms}
    assert by_name["A"].difference is None
    assert by_name["B"].difference.estimate.value == pytest.approx(
        by_name["A"].mean_error.value - by_name["B"].mean_error.value
    )
    assert by_name["B"].difference.estimate.value > 0


def test_a_pair_of_arms_has_one_interval_and_unregistered_ones_are_marked():
    differences = compare_arms(record()).differences
    pairs = [(each.over, each.arm) for each in differences]
    assert len(set(pairs)) == len(pairs)
    assert [(each.over, each.arm) for each in differences if not each.is_registered] == [("A", "D"), ("A", "E")]


def test_trained_names_what_did_not_train():
    study = record(states={("B", 3): "non-finite", ("B", 4): "failed", ("D", 0): "running", ("E", 1): "absent"})
    trained = {arm.name: arm.describe_outcomes for arm in compare_arms(study).arms}
    assert trained["A"] == "5 of 5"
    assert trained["B"] == "3 of 5 (1 non-finite, 1 failed)"
    assert trained["D"] == "4 of 4 (1 running)"
    assert trained["E"] == "4 of 4 (1 not started)"


def test_failures_end_with_the_last_line_of_the_traceback():
    (failure,) = compare_arms(record(states={("D", 1): "failed"})).failures
    assert (failure.arm, failure.seed, failure.state, failure.reason) == ("D", 1, "failed", "MemoryError: 12 GiB")


def test_no_finished_trial_is_said_so():
    compared = compare_arms(record(trials=()))
    assert compared.answer == "No trial has finished with a test error, so there is nothing to compare yet."
    assert not compared.has_errors
    assert {claim.word for claim in compared.claims} == {"inconclusive"}
    assert "20 of 20 planned trials never started, or were deleted from the store." in compared.cautions


def test_one_seed_says_nothing_of_methods_but_speaks_of_the_networks():
    compared = compare_arms(record(seeds=1))
    assert {claim.word for claim in compared.claims} == {"inconclusive"}
    assert any("One seed" in caution for caution in compared.cautions)
    assert all(not arm.mean_error.is_bounded for arm in compared.arms)
    assert any("These two trained networks differ" in sentence for sentence in compared.sensitivity)


def test_an_arm_without_a_figure_is_named():
    compared = compare_arms(record(states={("E", seed): "absent" for seed in range(5)}))
    assert "No test error for E: nothing can be said of it." in compared.cautions
    assert math.isnan(compared.arms[3].mean_error.value)


def test_a_test_error_that_is_not_a_number_counts_as_finished_without_a_figure():
    study = edited(record(), "B", 0, metrics={"test_error": math.nan})
    compared = compare_arms(study)
    assert compared.arms[1].describe_outcomes == "5 of 5 (1 without a test error)"
    assert compared.failures[0].state == "finished, no test error"
    assert compared.differences[0].num_pairs == 4


def test_one_arm_alone_has_nothing_to_be_compared_with():
    compared = compare_arms(record(arms=("A",)))
    assert compared.differences == ()
    assert compared.answer == "No claim was registered."


def test_a_study_without_seeds_is_said_so():
    compared = compare_arms(record(seeds=0))
    assert compared.answer.startswith("No trial has finished")


def test_shared_orders_and_weights_are_shown_as_kept():
    checks = {check.subject: check for check in compare_arms(record()).integrity_checks}
    assert checks["Data order"].state == "kept"
    assert checks["Data order"].finding == "equal to the baseline's in every arm, under 5 seeds"
    assert checks["Initial weights of B"].finding == "8 of the 8 layers that B and A both have start equal"


def test_another_data_order_breaks_the_pairing_aloud():
    evidence = dict(record().find_trial("D", 2).result.evidence) | {"order": "another"}
    compared = compare_arms(edited(record(), "D", 2, evidence=evidence))
    checks = {check.subject: check for check in compared.integrity_checks}
    assert checks["Data order"].state == "broken"
    assert "The pairing is broken: data order is not the baseline's: D under seed 2." in compared.cautions


def test_another_augmentation_is_no_breach_where_the_arm_declares_it():
    declared = {"D": (Difference(path="recipe.augmentation", before="shift", after="none"),)}
    study = record(changes={arm: declared.get(arm, changes(arm)) for arm in ARMS})
    for seed in range(5):
        evidence = dict(study.find_trial("D", seed).result.evidence) | {"augmentation": "none"}
        study = edited(study, "D", seed, evidence=evidence)
    checks = {check.subject: check.state for check in compare_arms(study).integrity_checks}
    assert checks["Augmentation"] == "declared"


def test_arms_trained_by_different_code_are_never_mixed_silently():
    study = edited(record(), "E", 4, digests={"data": "da1a", "code": "0ther", "platform": "cpu-2"})
    (caution,) = compare_arms(study).cautions
    assert caution.startswith("These trials were trained by different code")
    assert "0ther: E" in caution


def test_trials_outside_the_registration_are_left_out_and_counted():
    study = record()
    study = replace(study, trials=(*study.trials, trial("A", 17, 1.0), trial("Z", 0, 1.0)))
    compared = compare_arms(study)
    assert len(compared.trials) == 20
    assert "2 trials of unregistered arms or seeds, or repeated: they are left out." in compared.cautions


def test_credentials_of_the_store_do_not_reach_the_report():
    study = replace(record(), tracking_uri="postgresql://me:secret@host/mlflow")
    assert compare_arms(study).tracking_uri == "postgresql://host/mlflow"


def test_a_bundle_names_what_moved():
    (confound,) = compare_arms(record()).claims[1].confounds
    assert confound.startswith(
        "A\u00a0→\u00a0B: confounded (weight layers 11 → 14; parameters 520 k → 611 k; multiply-adds "
    )
    assert confound.endswith("; non-linearities 10 → 13)")


def test_claims_on_other_endpoints_are_judged_too():
    claims = (
        Helps(arm="B", over="A", endpoint="training_error"),
        Helps(arm="B", over="A", endpoint="time"),
        Helps(arm="B", over="A", endpoint="memory"),
        Helps(arm="B", over="A", endpoint="gradient_norm"),
        Helps(arm="B", over="A", endpoint="trainability"),
        AllOf(parts=(Helps(arm="B", over="A"), DoesNotHelp(arm="B", over="A", endpoint="time"))),
    )
    compared = compare_arms(record(claims=claims))
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
    assert describe_agreement(claim, word).startswith(begins)


def test_equal_changes_of_several_places_become_one_line():
    (change,) = collapse_changes(changes("D"))
    assert (change.path, change.before, change.after) == ("network.stages.*.convs.*", "absent", "Conv(kernel=3)")
    assert change.locations == ("0.1", "1.1", "2.2", "3.2", "4.2")


def test_a_single_change_keeps_its_place_in_the_path():
    (change,) = collapse_changes([Difference(path="network.stages.2.width", before=256, after=128)])
    assert (change.path, change.before, change.after, change.locations) == ("network.stages.2.width", "256", "128", ())


def test_an_object_that_went_is_told_as_one():
    gone = [
        Difference(path="network.head.kind", before="Head", after=None),
        Difference(path="network.head.dropout", before=0.5, after=None),
    ]
    (change,) = collapse_changes(gone)
    assert (change.before, change.after) == ("Head(dropout=0.5)", "absent")


def test_held_settings_keep_their_values():
    told = {change.path: change.after for change in collapse_held_settings(registration().held)}
    assert told["recipe.learning_rate"] == "0.05"


def test_numbers_read_well():
    assert format_fixed(-0.4, 2) == "−0.40"
    assert format_fixed(-0.001, 2) == "0.00"
    assert format_fixed(1234.5, 1, sign=True) == "+1,234.5"
    assert format_fixed(math.nan, 2) == "–"
    assert format_significant(0.0123) == "0.0123"
    assert format_plus_minus(Interval(value=27.314, low=26.9, high=27.728), 2) == "27.31 ± 0.41"
    assert format_interval(Interval(value=0.42, low=-0.12, high=0.96), 2) == "+0.42 [−0.12, 0.96]"
    assert format_interval(Interval(value=0.42), 2) == "+0.42"
    assert format_duration(2711) == "45 min"
    assert typeset_minus_signs("[-2.06, 1.46] of A-1") == "[−2.06, 1.46] of A-1"


def test_tiny_numbers_are_in_scientific_notation():
    assert format_fixed(-2.14e-11, SCIENTIFIC) == "−2.1e−11"
    assert format_fixed(2.14e-11, SCIENTIFIC, sign=True) == "+2.1e−11"
    assert format_fixed(0.0, SCIENTIFIC) == "0.000000"
    assert format_fixed(2.3025815, SCIENTIFIC) == "2.302582"  # larger than its spread: nothing is lost
    assert format_fixed(-0.13, SCIENTIFIC) == "−0.130000"
    assert decimals_off_zero([0.04, math.nan, math.inf, 0.0], 1) == 2
    assert decimals_off_zero([0.00001], 1, maximum=4) == 4
    assert decimals_off_zero([1e-9], 1) == SCIENTIFIC


def test_an_interval_is_cut_only_beyond_what_is_possible():
    touching = Interval(value=100.0, low=100.0, high=100.0)
    assert clip_interval(touching, 0, 100) == touching
    cut = clip_interval(Interval(value=3.83, low=-7.44, high=15.1), 0, 100)
    assert (cut.low, cut.high, cut.is_clipped) == (0, 15.1, True)
    assert cut.half_width == pytest.approx(11.27)


def test_a_reversed_zero_has_no_sign():
    reverse = Interval(value=0.0, low=0.0, high=0.5).reverse()
    assert [str(number) for number in (reverse.value, reverse.low, reverse.high)] == ["0.0", "-0.5", "0.0"]


def test_a_limit_beside_zero_is_not_printed_as_zero():
    made = compare_arms(record())
    first, *others = made.differences
    near = replace(first, estimate=Interval(value=1.46, low=0.004, high=2.88))
    assert error_decimals(replace(made, differences=(near, *others))) >= 3
    assert error_decimals(replace(made, differences=(replace(near, estimate=NO_INTERVAL), *others))) == 2


@pytest.mark.parametrize(
    ("states", "words"),
    [
        ({}, "All trials that ended have a test error; none was excluded."),
        (
            {("B", 0): "failed", ("D", 1): "at chance"},
            "Not finished: 2 trials without a test error (non-finite, at chance",
        ),
        ({("B", 0): "cancelled"}, "Cancelled, and so missing from the pairs: 1 trial."),
        ({("B", 0): "running", ("D", 1): "absent"}, "none was excluded. Planned, but not ended: 2 trials."),
    ],
)
def test_the_methods_say_which_trials_are_missing_and_why(states, words):
    assert words in describe_methods(compare_arms(record(states=states)))


@pytest.mark.parametrize(("state", "is_excluded"), [("failed", False), ("cancelled", True)])
def test_only_a_cancelled_trial_is_left_out_of_the_counts(state, is_excluded):
    (section,) = (
        item for item in report_sections(compare_arms(record(states={("B", 0): state})), ()) if item.name == "failures"
    )
    told = " ".join(section.paragraphs)
    assert ("No trial is excluded" in told) != is_excluded
    assert ("A cancelled trial is not counted" in told) == is_excluded


@pytest.mark.parametrize(
    ("cancelled", "words"),
    [
        ([("B", 0)], "1 of 20 planned trials cancelled: the pairs of its seed are missing."),
        ([("B", 0), ("D", 0)], "2 of 20 planned trials cancelled: the pairs of their seed are missing."),
        ([("B", 0), ("D", 1)], "2 of 20 planned trials cancelled: the pairs of their seeds are missing."),
    ],
)
def test_cancelled_trials_cost_the_pairs_of_their_seeds(cancelled, words):
    assert words in compare_arms(record(states=dict.fromkeys(cancelled, "cancelled"))).cautions


@pytest.mark.parametrize(
    ("half_width", "places"), [(0.043, 3), (0.43, 2), (1.3, 1), (12.0, 0), (0.0, 1), (math.nan, 1)]
)
def test_digits_follow_the_width_of_the_interval(half_width, places):
    assert choose_decimals([half_width]) == places


def test_the_same_record_gives_the_same_comparison():
    assert repr(compare_arms(record())) == repr(compare_arms(record()))


def test_no_engine_is_imported():
    assert result("A", 0, 1.0).status == "finished"
    assert labels().shape == (TEST_EXAMPLES,)
    import subprocess

    code = "import sys, reports.pages.study; "
    code += "print(sorted({'torch', 'ray', 'mlflow', 'optuna', 'pandas'} & set(sys.modules)))"
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert told.strip() == "[]"


def test_the_gradient_endpoint_is_the_first_layers_over_the_whole_training():
    study = record()
    curves = study.find_trial("A", 0).result.curves
    first = curves["gradient_norm/stage1.conv1"]
    assert endpoint_values(study, "gradient_norm")[0, 0] == pytest.approx(sum(first) / len(first))


def test_seeds_that_a_later_start_added_are_said():
    study = record()
    first = replace(study.starts[0], seeds=(0, 1, 2))
    later = replace(study.starts[0], seeds=(0, 1, 2, 3, 4))
    said = compare_arms(replace(study, starts=(first, later))).cautions
    assert any("Start 2 added 2 seeds (3 and 4), when results could be seen" in caution for caution in said)


@pytest.mark.parametrize(
    ("seeds", "num_results", "added"),
    [
        ([0, 1, 2, 3], 0, "1 seed (4)"),
        ([0, 1, 2, 3], 3, "2 seeds (3 and 4)"),
        (list(range(50)), 0, "2 seeds (3 and 4)"),  # trained until the result suited, for all that anybody knows
    ],
)
def test_seeds_that_were_registered_before_any_result_are_not_added_by_the_start_that_trains_them(
    seeds, num_results, added
):
    study = record()
    first = replace(study.starts[0], seeds=(0, 1, 2))
    later = replace(study.starts[0], seeds=(0, 1, 2, 3, 4))
    registered = RegistrationEntry(
        declaration={"seeds": seeds}, time="", user="", host="", num_planned=16, num_results=num_results, code=""
    )
    check = RegistrationCheck(study_folder="", entries=(registered,), places=(), mismatches=(), page_digest="")
    said = compare_arms(replace(study, starts=(first, later), registration_check=check)).cautions
    assert any(f"Start 2 added {added}, when results could be seen" in caution for caution in said)


def test_credentials_of_a_store_are_not_reported():
    command = "ablate run depth --tracking-uri postgresql://bob:hun@ter2@db/mlflow?password=secret --seeds 5"
    study = record()
    study = replace(
        study,
        tracking_uri="postgresql://bob:hun@ter2@db/mlflow?password=secret",
        starts=(replace(study.starts[0], command=command),),
    )
    compared = compare_arms(study)
    assert compared.tracking_uri == "postgresql://db/mlflow"
    assert compared.starts[0].command == "ablate run depth --tracking-uri postgresql://db/mlflow --seeds 5"


def test_with_images_an_interval_is_never_narrower_than_over_seeds_alone():
    for difference in compare_arms(record()).differences:
        if difference.seed_image_interval.is_bounded:
            assert difference.seed_image_interval.low <= difference.estimate.low
            assert difference.seed_image_interval.high >= difference.estimate.high


def test_a_claim_on_time_says_where_its_arms_ran_on_different_machines():
    study = record(claims=(Helps(arm="B", over="A", endpoint="time"),))
    environment = dict(study.find_trial("B", 0).result.environment)
    moved = edited(study, "B", 0, environment=environment | {"device_name": "another machine"})
    notes = compare_arms(moved).claims[0].notes
    assert any(note.startswith("not comparable: measured on different machines") for note in notes)


# -- claims and results, code and starts -------------------------------------------------------------------------------


def test_claims_that_were_registered_after_results_could_be_seen_are_said_first():
    cautions = compare_arms(record(num_planned=20, num_visible=5)).cautions
    assert cautions[0].startswith("These claims were registered after 5 of 20 results could be seen")
    assert not any("could be seen" in caution for caution in compare_arms(record()).cautions)


def test_claims_that_the_file_made_later_are_not_judged_and_that_is_said():
    study = record(claims=(Helps(arm="B", over="A"),), registered="2026-03-01T10:12:00+00:00")
    (first,) = study.starts
    (registered,) = (claim.sentence for claim in study.registration.claims)
    turned = Helps(arm="A", over="B").sentence
    later = replace(first, time="2026-03-02T10:12:00+00:00", claims=(turned,))
    starts = (replace(first, claims=(registered,)), later)
    (caution,) = [text for text in compare_arms(replace(study, starts=starts)).cautions if "claims judged" in text]
    assert caution.startswith("The claims judged are those registered on 2026-03-01. The start of 2026-03-02 declared")
    assert f"not judged, as not registered: {turned}" in caution
    assert f"judged, although the file no longer made it: {registered}" in caution


@pytest.mark.parametrize(
    ("revision", "working_tree", "count"),
    [("1f3c9e2ab47d", "clean", 0), ("1f3c9e2ab47d", "uncommitted changes", 20), ("0000", "clean", 20), ("", "", 0)],
)
def test_trials_by_code_of_no_listed_start_are_counted(revision, working_tree, count):
    study = record()
    trials = tuple(replace(each, revision=revision, working_tree=working_tree) for each in study.trials)
    cautions = compare_arms(replace(study, trials=trials)).cautions
    found = [caution for caution in cautions if "ran code of no start that is listed" in caution]
    assert [caution.split()[0] for caution in found] == ([str(count)] if count else [])


def test_a_claim_whose_arm_is_the_baseline_registers_the_difference_with_its_sign_turned():
    study = record()
    turned = replace(study, registration=replace(study.registration, claims=(Helps(arm="A", over="B"),)))
    found = compare_arms(turned)
    (registered,) = (each for each in found.differences if each.is_registered)
    row = found.arms[1].difference
    assert (row.over, row.arm, row.is_registered) == ("A", "B", True)
    assert (row.estimate.low, row.estimate.high) == (-registered.estimate.high, -registered.estimate.low)
    assert [(each.over, each.arm) for each in found.differences].count(("A", "B")) == 0
