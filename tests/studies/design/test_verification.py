"""Arms that differ as declared, and train or test alike all the same."""

from dataclasses import replace

import pytest

from ablations import InvalidAblation
from lightning_modules.specs.setup import WarmStart
from lightning_modules.specs.values import edit_fields
from studies.design.tuning import Choice, Range, TuningBudget
from studies.design.verification import build_verified_networks


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("recipe.patience", 2, "only the schedule 'plateau' reads it"),
        ("recipe.microbatch", 100_000, "no batch is larger than a microbatch"),
        ("data.bad_files", "leave out", "only the source 'folder' has files"),
    ],
)
def test_arms_that_differ_in_a_setting_that_no_trial_of_theirs_reads_are_refused(small, path, value, reason):
    other = edit_fields(small, {path: value})
    with pytest.raises(InvalidAblation, match=rf"'one' and 'other' differ in {path}, which has no effect .*: {reason}"):
        build_verified_networks({"one": small, "other": other})


@pytest.mark.parametrize("changes", [{"mirroring": "never"}, {"sides": (1.0001,)}], ids=["mirroring", "sides"])
def test_evaluations_of_the_same_views_are_refused(small, changes):
    one = edit_fields(small, {"recipe.augmentation": "none", "test.mode": "dense"})
    other = replace(one, test=replace(one.test, **changes))
    with pytest.raises(InvalidAblation, match=r"differ in test\.\S+, which has no effect on either: .*each image"):
        build_verified_networks({"one": one, "other": other})


@pytest.mark.parametrize("path", ["recipe.patience", "recipe.microbatch"])
def test_the_same_settings_are_accepted_where_a_trial_reads_them(small, path):
    read = edit_fields(small, {"recipe.schedule": "plateau", "recipe.batch_size": 64})
    assert build_verified_networks({"one": read, "other": edit_fields(read, {path: 8})})


def test_the_patience_of_a_source_network_counts(small):
    start = WarmStart(network=small.network, layers=("stage1",), recipe={"schedule": "plateau"})
    warm = replace(small, start=start)
    assert build_verified_networks({"one": warm, "other": edit_fields(warm, {"recipe.patience": 2})})


PATIENCE = Range(path="recipe.patience", low=2, high=9)


@pytest.mark.parametrize(
    "space", [(PATIENCE,), (Choice(path="recipe.microbatch", values=(0, 100_000)),)], ids=["patience", "microbatch"]
)
def test_a_budget_whose_candidates_would_train_alike_is_refused(small, space):
    tuning = TuningBudget(trials=2, space=space)
    with pytest.raises(InvalidAblation, match=r"is to be tuned, and has no effect on arm 'one': .*Leave it out"):
        build_verified_networks({"one": small}, tuning)


def test_a_setting_that_another_choice_of_the_space_makes_effective_can_be_tuned(small):
    schedules = Choice(path="recipe.schedule", values=("plateau", "cosine"))
    assert build_verified_networks({"one": small}, TuningBudget(trials=2, space=(PATIENCE, schedules)))


MICROBATCH = Choice(path="recipe.microbatch", values=(512, 1024))


@pytest.mark.parametrize(
    "space",
    [
        (Range(path="recipe.microbatch", low=1, high=4096),),
        (Range(path="recipe.batch_size", low=16, high=2048), MICROBATCH),
    ],
    ids=["between its bounds", "in large batches"],
)
def test_microbatches_that_split_some_candidates_batches_can_be_tuned(small, space):
    assert build_verified_networks({"one": small}, TuningBudget(trials=2, space=space))


@pytest.mark.parametrize(
    ("changes", "others"),
    [
        ({"recipe.batch_size": 64, "recipe.microbatch": 64}, {"recipe.batch_size": 128, "recipe.microbatch": 128}),
        ({"recipe.schedule": "constant", "recipe.patience": 1}, {"recipe.schedule": "cosine"}),
    ],
)
def test_beside_another_change_a_setting_that_is_not_read_does_no_harm(small, changes, others):
    one, other = edit_fields(small, changes), edit_fields(small, others)
    assert build_verified_networks({"one": one, "other": other})
