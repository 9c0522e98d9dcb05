"""Two runs of one study: what differed, what both say, and where they are no two runs. Made-up numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest
from records import HOSTILE, record

from reports.rerun import NotTheSameStudy, agree, rerun
from reports.rerun_page import rerun_files, write_rerun


def changed(study, /, *, run_id="77aa", factor=1.0, **fields):
    """The same study once more: other errors, other fields of its registration."""
    trials = tuple(
        replace(
            each,
            run_id=f"again-{each.run_id}",
            result=replace(
                each.result, metrics={**each.result.metrics, "test_error": factor * each.result.metrics["test_error"]}
            ),
        )
        for each in study.trials
    )
    return replace(study, run_id=run_id, trials=trials, registration=replace(study.registration, **fields))


def test_an_exact_repetition_differs_in_nothing_and_says_so():
    study = record()
    found = rerun(study, changed(study))
    assert found.changed == ()
    assert (found.repeated, found.equal, found.shared) == (20, 20, 0)
    assert found.answer == "The verdicts agree on all 3 claims."
    text = rerun_files(found)["rerun.md"].decode()
    assert "Nothing that was recorded differs" in text
    assert "to the last digit, in 20 of 20 trials that both finished." in text


def test_everything_that_differs_is_named_with_both_values():
    study = record()
    held = {**study.registration.held, "recipe.epochs": 60}
    other = changed(study, protocol="cifar10", held=held, data={**study.registration.data, "name": "cifar10"})
    other = replace(other, starts=tuple(replace(each, revision="99e2", hardware="1 GPU") for each in other.starts))
    found = rerun(study, other)
    assert {(each.what, each.first, each.other) for each in found.changed} == {
        ("protocol", "digits", "cifar10"),
        ("revision", "1f3c9e2ab47d", "99e2"),
        ("hardware", "2 CPU cores, 8 GiB", "1 GPU"),
        ("data name", "digits", "cifar10"),
        ("recipe.epochs", "30", "60"),
    }
    assert found.names == ("digits", "cifar10")


def test_an_arm_of_another_edit_under_the_same_name_is_found_out():
    study = record(arms=("A", "B"))
    other = changed(study, changes={"A": (), "B": study.registration.changes["B"][:2]})
    assert [each.what for each in rerun(study, other).changed] == ["what B changes"]


def test_verdicts_that_contradict_each_other_are_told():
    study = record(arms=("A", "B"))
    swap = {"A": "B", "B": "A"}
    trials = tuple(
        replace(each, run_id="x", result=replace(study.of(swap[each.arm], each.seed).result, fingerprint="x"))
        for each in study.trials
    )
    found = rerun(study, replace(study, run_id="77aa", trials=trials))
    assert [(claim.first, claim.other, claim.agree) for claim in found.claims] == [
        ("supported", "contradicted", "no"), ("supported", "contradicted", "no"),
    ]  # fmt: skip
    assert found.answer == "Of the verdicts on 2 claims, 2 contradict each other."
    assert [pair.said for pair in found.pairs] == ["opposite signs"]


def test_a_claim_of_one_run_alone_is_not_counted():
    study = record()
    found = rerun(study, changed(study, claims=study.registration.claims[:1]))
    assert [claim.agree for claim in found.claims] == ["yes", "in one only", "in one only"]
    assert found.answer == "The verdicts agree on the only claim."


def test_trials_that_are_one_and_the_same_training_confirm_nothing():
    study = record(arms=("A", "B"))
    other = changed(study)
    other = replace(other, trials=tuple(replace(each, reused_from=each.run_id[6:]) for each in other.trials))
    found = rerun(study, other)
    assert found.shared == 10
    assert "used twice: there, agreement says nothing." in rerun_files(found)["rerun.md"].decode()


def test_two_studies_are_no_two_runs_of_one():
    study = record()
    with pytest.raises(NotTheSameStudy, match="run 77aa is of the study 'lrn', not of 'depth'"):
        rerun(study, changed(study, study="lrn"))


def test_a_run_is_not_compared_with_itself():
    with pytest.raises(NotTheSameStudy, match="run 3b5d0c cannot be compared with itself"):
        rerun(record(), record())


def test_a_run_without_a_trial_is_compared_all_the_same(tmp_path):
    study = record(arms=HOSTILE, seeds=2)
    page = write_rerun(rerun(study, replace(study, run_id="77aa", trials=(), starts=())), tmp_path / "both")
    text = page.read_text()
    assert "<script>alert" not in text
    assert "http" not in text
    assert "no two intervals" in text
    names = {path.name for path in page.parent.iterdir()}
    assert names == {
        "index.html", "rerun.md", "rerun.tex", "changed.csv", "arms.csv", "differences.csv", "claims.csv", "figures",
    }  # fmt: skip


def test_the_same_two_records_give_the_same_bytes():
    study = record(arms=("A", "B"), seeds=2)
    first, second = (rerun_files(rerun(study, changed(study, factor=1.1))) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("first", "other", "said"),
    [
        ("supported", "supported", "yes"),
        ("supported", "contradicted", "no"),
        ("supported", "practically equivalent", "near"),
        ("practically equivalent", "contradicted", "near"),
        ("inconclusive", "contradicted", "open"),
    ],
)
def test_only_support_and_contradiction_contradict_each_other(first, other, said):
    assert agree(first, other) == agree(other, first) == said
