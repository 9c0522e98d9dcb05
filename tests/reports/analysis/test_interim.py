"""A sequential study: judged at registered looks, each at its share of the 5%."""

from dataclasses import replace

import pytest

from ablations import DoesNotHelp, Helps
from reports.analysis.interim import interim_schedule, restrict_to_first_seeds
from reports.comparison.comparison import compare_arms, unresolved
from reports.content.report import report_sections
from reports.renderers import markdown
from tests.reports.records import crossed, record, trial

CLAIMS = (Helps(arm="B", over="A"),)
CLEAR = [(9.0, 7.0), (9.2, 7.1), (8.9, 7.0), (9.1, 7.2), (9.0, 7.1), (9.1, 7.0), (9.0, 7.0), (8.9, 7.1)]
LATE = [(9.0, 7.0), (9.2, 9.4), (8.9, 8.0), (9.1, 8.0), (9.0, 8.1), (9.1, 8.0), (9.0, 8.0), (8.9, 8.1)]
NEVER = [(9.0, 8.0), (9.0, 10.0), (9.0, 8.1), (9.0, 9.8), (9.0, 8.0), (9.0, 10.0), (9.0, 8.0), (9.0, 10.0)]


def study_of(errors, looks=(3, 5, 8), claims=CLAIMS, seeds=None):
    """A and B with these errors; ``seeds`` of them begun."""
    trials = tuple(
        trial(arm, seed, error)
        for seed, both in enumerate(errors[:seeds])
        for arm, error in zip("AB", both, strict=True)
    )
    return record(("A", "B"), len(errors[:seeds]), trials=trials, claims=claims, looks=looks, smallest_effect=0.5)


@pytest.mark.parametrize(
    ("errors", "seeds", "word", "note"),
    [
        (CLEAR, 3, "supported", "resolved at interim analysis 1 of 3, at 3 seeds and at 1.67% instead of 5%"),
        (CLEAR, 8, "supported", "resolved at interim analysis 1 of 3, at 3 seeds and at 1.67% instead of 5%"),
        (LATE, 3, "inconclusive", "open after interim analysis 1 of 3, at 3 seeds and at 1.67% instead of 5%"),
        (LATE, 8, "supported", "resolved at interim analysis 3 of 3, at 8 seeds and at 1.67% instead of 5%"),
        (NEVER, 8, "inconclusive", "open after interim analysis 3 of 3, at 8 seeds and at 1.67% instead of 5%"),
    ],
)
def test_a_claim_is_judged_at_the_first_look_that_resolves_it(errors, seeds, word, note):
    found = compare_arms(study_of(errors, seeds=seeds)).claims[0]
    assert found.word == word
    assert found.notes[0] == note


def test_a_verdict_is_not_taken_back_by_later_seeds():
    later = [*CLEAR[:3], (9.0, 15.0), (9.0, 1.0), (9.0, 15.0), (9.0, 1.0), (9.0, 15.0)]
    assert compare_arms(study_of(later)).claims[0].word == "supported"
    assert compare_arms(study_of(later, looks=())).claims[0].word == "inconclusive"


def test_every_interval_of_a_sequential_study_is_printed_at_its_level():
    found = compare_arms(study_of(CLEAR))
    assert found.confidence_level == "98.3%"
    text = " ".join(str(section) for section in report_sections(found, ()))
    assert "98.3%" in text
    assert compare_arms(study_of(CLEAR, looks=())).confidence_level == "95%"


def test_a_wider_level_gives_wider_intervals():
    wide, narrow = (compare_arms(study_of(CLEAR, looks=looks)).differences[0] for looks in ((3, 5, 8), ()))
    assert wide.estimate.half_width > 1.2 * narrow.estimate.half_width


def while_running(study, arm, seed):
    """The study as it stood while one of its trials was running."""
    trials = []
    for each in study.trials:
        is_running = (each.arm, each.seed) == (arm, seed)
        trials.append(replace(each, state="running", result=None) if is_running else each)
    return replace(study, trials=tuple(trials))


def test_a_look_counts_once_all_its_trials_have_ended():
    whole = study_of(CLEAR)
    running = while_running(whole, "B", 4)
    assert (interim_schedule(whole).num_reached, interim_schedule(running).num_reached) == (3, 1)
    early = compare_arms(study_of(CLEAR, seeds=2))
    assert early.claims[0].word == "inconclusive"
    assert early.claims[0].reason == "the first interim analysis, at 3 seeds, has not been reached"
    assert early.claims[0].finding == f"Cannot tell whether B improves on A in test error: {early.claims[0].reason}"
    assert not any("by more than" in note for note in early.claims[0].notes)


def test_before_the_first_look_no_page_states_a_finding():
    compared = compare_arms(while_running(study_of(CLEAR), "B", 2))
    assert compared.interim_schedule.num_reached == 0
    assert [claim.word for claim in compared.claims] == ["inconclusive"]
    assert compared.claims[0].finding.startswith("Cannot tell whether")
    assert "by more than ε" not in markdown.render_report(compared, ())


def test_a_fixed_study_has_no_looks():
    assert interim_schedule(record()) is None
    assert compare_arms(record()).interim_schedule is None


def test_the_study_as_it_stood_after_its_first_seeds():
    early = restrict_to_first_seeds(record(seeds=5), 2)
    assert early.registration.seeds == (0, 1)
    assert {each.seed for each in early.trials} == {0, 1}


def test_seeds_of_registered_looks_are_no_later_addition():
    study = study_of(CLEAR)
    starts = tuple(replace(study.starts[0], seeds=tuple(range(count))) for count in (3, 5, 8))
    assert not any("added" in caution for caution in compare_arms(replace(study, starts=starts)).cautions)
    unregistered = replace(study, registration=replace(study.registration, looks=()), starts=starts)
    assert sum("when results could be seen" in caution for caution in compare_arms(unregistered).cautions) == 2


@pytest.mark.parametrize(
    ("errors", "open_claims"),
    [(CLEAR, ()), (LATE, ("B improves on A in test error.",))],
)
def test_what_the_next_look_is_needed_for(errors, open_claims):
    assert unresolved(study_of(errors, seeds=3)) == open_claims


def test_one_open_claim_of_two_keeps_the_study_going():
    study = study_of(CLEAR, seeds=3, claims=(*CLAIMS, DoesNotHelp(arm="A", over="B")))
    words = {claim.sentence: claim.word for claim in compare_arms(study).claims}
    assert unresolved(study) == tuple(sentence for sentence, word in words.items() if word == "inconclusive")


def test_every_interval_of_a_sequential_study_has_the_level_of_its_analyses():
    looks = (4, 8, 12)
    sequential, fixed = (compare_arms(crossed(looks=given)).factorial_analyses[0] for given in (looks, ()))
    assert (sequential.confidence_level, fixed.confidence_level) == ("98.3%", "95%")
    for narrow, wide in zip(fixed.effects, sequential.effects, strict=True):
        assert wide.estimate.half_width > 1.2 * narrow.estimate.half_width
    assert "Simultaneous 98.3% intervals" in markdown.render_report(compare_arms(crossed(looks=looks)), ())


def test_a_sequential_study_warns_of_claims_that_its_level_cannot_decide():
    # Four of four against none has p = 0.029: enough at 5%, too little at 2.5%.
    claim = Helps(arm="B", over="A", endpoint="trainability")
    texts = {}
    for looks in ((2, 4), ()):
        compared = compare_arms(study_of(CLEAR[:4], looks=looks, claims=(claim,)))
        texts[looks] = " ".join(compared.sensitivity)
    assert "4 seeds cannot decide a claim on trainability" in texts[2, 4]
    assert "cannot decide" not in texts[()]
