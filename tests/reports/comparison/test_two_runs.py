"""Two runs of one study: what differed, what both say, and where they are no two runs. Made-up numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reports.comparison.two_runs import DifferentStudiesError, compare_runs, compare_verdicts
from reports.pages.two_runs import run_comparison_files, write_run_comparison
from tests.reports.records import HOSTILE, record


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
    found = compare_runs(study, changed(study))
    assert found.differences == ()
    assert (found.num_repeated, found.num_equal, found.num_shared) == (20, 20, 0)
    assert found.answer == "Of 3 claims in both runs: 2 with the same verdict and 1 inconclusive in both."
    text = run_comparison_files(found)["rerun.md"].decode()
    assert "No recorded condition differs" in text
    assert "exactly the same test error in 20 of 20 trials that finished in both runs." in text


def test_everything_that_differs_is_named_with_both_values():
    study = record()
    held = {**study.registration.held, "recipe.epochs": 60}
    other = changed(study, protocol="cifar10", held=held, data={**study.registration.data, "name": "cifar10"})
    other = replace(other, starts=tuple(replace(each, revision="99e2", hardware="1 GPU") for each in other.starts))
    found = compare_runs(study, other)
    assert {(each.subject, each.first, each.other) for each in found.differences} == {
        ("protocol", "digits", "cifar10"),
        ("revision", "1f3c9e2ab47d", "99e2"),
        ("hardware", "2 CPU cores, 8 GiB", "1 GPU"),
        ("data name", "digits", "cifar10"),
        ("recipe.epochs", "30", "60"),
    }
    assert found.run_labels == ("digits", "cifar10")


def test_an_arm_of_another_edit_under_the_same_name_is_found_out():
    study = record(arms=("A", "B"))
    other = changed(study, changes={"A": (), "B": study.registration.changes["B"][:2]})
    assert [each.subject for each in compare_runs(study, other).differences] == ["settings changed by B"]


def test_verdicts_that_contradict_each_other_are_told():
    study = record(arms=("A", "B"))
    swap = {"A": "B", "B": "A"}
    trials = tuple(
        replace(each, run_id="x", result=replace(study.find_trial(swap[each.arm], each.seed).result, fingerprint="x"))
        for each in study.trials
    )
    found = compare_runs(study, replace(study, run_id="77aa", trials=trials))
    assert [(claim.first, claim.other, claim.agreement) for claim in found.claims] == [
        ("supported", "contradicted", "no"), ("supported", "contradicted", "no"),
    ]  # fmt: skip
    assert found.answer == "Of 2 claims in both runs: 2 with opposite verdicts."
    assert [pair.sign_agreement for pair in found.contrasts] == ["opposite signs"]


def test_a_claim_of_one_run_alone_is_not_counted():
    study = record()
    found = compare_runs(study, changed(study, claims=study.registration.claims[:1]))
    assert [claim.agreement for claim in found.claims] == ["both cannot tell", "in one only", "in one only"]
    assert found.answer == "Both runs cannot tell whether the only claim holds: that is no agreement."


def test_trials_that_are_one_and_the_same_training_confirm_nothing():
    study = record(arms=("A", "B"))
    other = changed(study)
    other = replace(other, trials=tuple(replace(each, reused_from=each.run_id[6:]) for each in other.trials))
    found = compare_runs(study, other)
    assert found.num_shared == 10
    told = "10 trials are shared by the two runs, trained once and used in both: their agreement is no replication."
    assert told in run_comparison_files(found)["rerun.md"].decode()


def test_two_studies_are_no_two_runs_of_one():
    study = record()
    with pytest.raises(DifferentStudiesError, match="run 77aa is of the study 'lrn', not of 'depth'"):
        compare_runs(study, changed(study, study="lrn"))


def test_a_run_is_not_compared_with_itself():
    with pytest.raises(DifferentStudiesError, match="run 3b5d0c cannot be compared with itself"):
        compare_runs(record(), record())


def test_a_run_without_a_trial_is_compared_all_the_same(tmp_path):
    study = record(arms=HOSTILE, seeds=2)
    page = write_run_comparison(
        compare_runs(study, replace(study, run_id="77aa", trials=(), starts=())), tmp_path / "both"
    )
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
    first, second = (run_comparison_files(compare_runs(study, changed(study, factor=1.1))) for _ in range(2))
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
    assert compare_verdicts(first, other) == compare_verdicts(other, first) == said
