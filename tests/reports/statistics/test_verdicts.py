from dataclasses import replace

import numpy as np
import pingouin
import pytest
from statsmodels.stats.weightstats import ttost_paired

from ablations import AllOf, DoesNotHelp, FallsWith, Helps, HelpsBy, Metric, Reverses, SaturatesAt
from reports.formatting import explain_finding
from reports.statistics import Evidence, estimate_contrasts, judge_claims

NOISE = np.random.default_rng(5).normal(0, 0.02, size=(6, 5))


def measured(means, noise=1.0, seeds=5):
    """Arms x seeds: the given means, a common effect of the seed, and small noise of each arm."""
    common = np.linspace(-0.4, 0.4, seeds)
    return np.asarray(means, dtype=float)[:, None] + common + noise * NOISE[: len(means), :seeds]


def evidence(values, lost_to_divergence=None, **changes):
    lost = np.zeros(np.shape(values), dtype=bool) if lost_to_divergence is None else lost_to_divergence
    fields = {
        "values": values,
        "lost_to_divergence": lost,
        "smallest_effect": 0.3,
        "unit": "points",
        "largest_difference": 100.0,
    }
    return Evidence(**fields | changes)


def verdict(claim, means, **changes):
    arms = "ABCDEF"[: len(means)]
    return judge_claims([claim], arms, {"test_error": evidence(measured(means, **changes))})[0]


HELPS, DOES_NOT_HELP = Helps(arm="B", over="A"), DoesNotHelp(arm="B", over="A")
HELPS_BY = HelpsBy(arm="B", over="A", by=1.0, within=0.2)
FALLS = FallsWith(order=("A", "B", "C"))
SATURATES = SaturatesAt(arm="B", order=("A", "B", "C"))
REVERSES = Reverses(worse=("A", "B"), better=("C", "D"))
BOTH = AllOf(parts=(Helps(arm="B", over="A"), DoesNotHelp(arm="C", over="A")))


@pytest.mark.parametrize(
    ("claim", "means", "noise", "word"),
    [
        (HELPS, (10, 9), 1, "supported"),
        (HELPS, (10, 11), 1, "contradicted"),
        (HELPS, (10, 10), 1, "practically equivalent"),
        (HELPS, (10, 10), 30, "inconclusive"),
        (DOES_NOT_HELP, (10, 11), 1, "supported"),
        (DOES_NOT_HELP, (10, 9), 1, "contradicted"),
        (DOES_NOT_HELP, (10, 10), 1, "practically equivalent"),
        (DOES_NOT_HELP, (10, 9.5), 30, "inconclusive"),
        (HELPS_BY, (10, 9), 1, "supported"),
        (HELPS_BY, (10, 8), 1, "contradicted"),
        (HELPS_BY, (10, 10), 1, "contradicted"),
        (HELPS_BY, (10, 9), 30, "inconclusive"),
        (FALLS, (10, 9, 8), 1, "supported"),
        (FALLS, (10, 9, 9.5), 1, "contradicted"),
        (FALLS, (10, 9, 11), 1, "contradicted"),
        (FALLS, (10, 10, 10), 30, "inconclusive"),
        (FALLS, (10, 10.6, 11.2), 12, "contradicted"),
        (SATURATES, (10, 9, 9), 1, "supported"),
        (SATURATES, (10, 9, 8), 1, "contradicted"),
        (SATURATES, (10, 10, 10), 1, "inconclusive"),
        (SATURATES, (10, 9, 10), 1, "contradicted"),
        (SATURATES, (10, 11, 11), 1, "contradicted"),
        (SATURATES, (10, 11, 10), 1, "contradicted"),
        (SATURATES, (10, 10, 9.85), 1, "inconclusive"),
        (SATURATES, (10, 9, 9), 30, "inconclusive"),
        (REVERSES, (10, 11, 11, 10), 1, "supported"),
        (REVERSES, (10, 9, 11, 10), 1, "contradicted"),
        (REVERSES, (10, 11, 10, 11), 1, "contradicted"),
        (REVERSES, (10, 10, 10, 10), 1, "practically equivalent"),
        (REVERSES, (10, 10, 11, 10), 1, "inconclusive"),
        (BOTH, (10, 9, 10), 1, "supported"),
        (BOTH, (10, 9, 11), 1, "supported"),
        (BOTH, (10, 9, 9), 1, "contradicted"),
        (BOTH, (10, 10, 10), 1, "practically equivalent"),
        (BOTH, (10, 10, 11), 1, "inconclusive"),
    ],
)
def test_every_line_of_the_table(claim, means, noise, word):
    assert verdict(claim, means, noise=noise).word == word


def test_a_rise_smaller_than_the_smallest_effect_does_not_stop_a_fall():
    assert verdict(FALLS, (10, 9, 9.1)).word == "supported"


def test_a_gain_below_the_smallest_effect_is_still_a_plateau():
    assert verdict(SATURATES, (10, 9, 8.85)).word == "supported"


def test_the_reason_is_the_interval_that_decided():
    found = verdict(HELPS, (10, 9))
    low, high = (f"{bound:.3f}".replace("-", "−") for bound in (-found.contrasts[0].high, -found.contrasts[0].low))
    assert found.reason == f"the 95% interval of the change, {low} to {high} points, excludes 0"
    change = f"−{found.contrasts[0].estimate:.3f} points (95% interval {low} to {high})"
    assert found.finding == f"B improves on A in test error: change from A to B {change}"


def test_an_inconclusive_reason_says_what_was_missed():
    found = verdict(HELPS, (10, 10), noise=30)
    assert "includes 0; the one-sided 95% bounds" in found.reason
    assert found.reason.endswith("do not lie within ±0.3 points")
    assert found.finding.startswith(
        "Cannot tell whether B improves on A in test error: change from A to B +0.24 points"
    )


def test_the_family_is_the_union_of_all_claims_on_the_endpoint():
    values, claims = measured((10, 9, 8)), [HELPS, Helps(arm="C", over="A")]
    found = judge_claims(claims, "ABC", {"test_error": evidence(values)})
    assert found[0].contrasts + found[1].contrasts == estimate_contrasts(values, "ABC", [("A", "B"), ("A", "C")])
    assert "simultaneous 95% interval" in found[0].reason


def test_claims_on_another_endpoint_are_another_family():
    values, other = measured((10, 9, 8)), Helps(arm="C", over="A", endpoint="training_error")
    found = judge_claims([HELPS, other], "ABC", {"test_error": evidence(values), "training_error": evidence(values)})
    assert found[0].contrasts == estimate_contrasts(values, "ABC", [("A", "B")])


def test_a_lone_conjunction_is_read_at_the_level_of_each_part():
    values = measured((10, 9, 9), noise=30)
    steps = estimate_contrasts(values, "ABC", [("A", "B"), ("B", "C")])
    assert all(step.low_individual_one_sided > -0.3 for step in steps)
    assert any(step.low_one_sided < -0.3 for step in steps), "the case must tell the two levels apart"
    alone, crowded = (
        judge_claims(claims, "ABC", {"test_error": evidence(values)})[0].word
        for claims in ([FALLS], [FALLS, SATURATES])
    )
    assert (alone, crowded) == ("supported", "inconclusive")


def test_a_lone_conjunction_says_that_its_parts_hold_at_their_own_level():
    assert "every part holds at its own level" in verdict(FALLS, (10, 9, 8)).notes[0]


def test_a_lone_conjunction_is_equivalent_by_the_simultaneous_bounds():
    values = measured((10, 10, 10), noise=5)
    contrasts = estimate_contrasts(values, "ABC", [("A", "B"), ("A", "C")])
    own = max(max(-each.low_individual_one_sided, each.high_individual_one_sided) for each in contrasts)
    simultaneous = max(each.equivalence_margin for each in contrasts)
    claim = AllOf(parts=(HELPS, Helps(arm="C", over="A")))
    words = []
    for smallest_effect in ((own + simultaneous) / 2, 1.01 * simultaneous):
        numbers = evidence(values, smallest_effect=smallest_effect)
        words.append(judge_claims([claim], "ABC", {"test_error": numbers})[0].word)
    assert words == ["inconclusive", "practically equivalent"]


def test_equivalence_is_two_one_sided_tests():
    values = measured((10, 10.1), noise=8)
    shown = {
        margin: judge_claims([HELPS], "AB", {"test_error": evidence(values, smallest_effect=margin)})[0].word
        == "practically equivalent"
        for margin in np.linspace(0.05, 1, 20)
    }
    by_statsmodels = {each: ttost_paired(*values, -each, each)[0] < 0.05 for each in shown}
    by_pingouin = {each: bool(pingouin.tost(*values, bound=each, paired=True)["pval"].iloc[0] < 0.05) for each in shown}
    assert shown == by_statsmodels == by_pingouin
    assert len(set(shown.values())) == 2


def test_one_seed_is_inconclusive():
    found = verdict(HELPS, (10, 5), seeds=1)
    assert (found.word, found.reason[:8]) == ("inconclusive", "one seed")


def test_two_seeds_may_state_a_direction():
    assert verdict(HELPS, (10, 5), seeds=2).word == "supported"


@pytest.mark.parametrize("claim", [HELPS, DOES_NOT_HELP, HELPS_BY])
def test_two_seeds_may_state_no_margin(claim):
    means = (10, 9) if claim is HELPS_BY else (10, 10)
    found = judge_claims([claim], "AB", {"test_error": evidence(measured(means, noise=0.01, seeds=2))})[0]
    assert found.word in ("inconclusive", "supported")
    assert any("two seeds: they can show a direction, no margin" in text for text in (found.reason, *found.notes))


def with_lost_seeds(means, lost):
    values, untrained = measured(means), np.zeros((len(means), 5), dtype=bool)
    for row, count in enumerate(lost):
        untrained[row, :count] = True
    return evidence(np.where(untrained, np.nan, values), untrained)


@pytest.mark.parametrize(
    ("claim", "means", "lost", "word"),
    [
        (HELPS, (10, 9), (0, 1), "inconclusive"),
        (HELPS, (10, 9), (1, 0), "supported"),
        (HELPS, (10, 9), (1, 1), "supported"),
        (HELPS, (10, 11), (0, 1), "contradicted"),
        (HELPS, (10, 11), (1, 0), "inconclusive"),
        (HELPS, (10, 10), (0, 1), "inconclusive"),
        (HELPS, (10, 10), (1, 1), "practically equivalent"),
        (DOES_NOT_HELP, (10, 9), (0, 1), "inconclusive"),
        (DOES_NOT_HELP, (10, 10), (0, 1), "supported"),
        (DOES_NOT_HELP, (10, 10), (1, 0), "inconclusive"),
        (HELPS_BY, (10, 9), (1, 0), "inconclusive"),
        (FALLS, (10, 9, 8), (0, 0, 1), "inconclusive"),
        (FALLS, (10, 9, 8), (1, 0, 0), "supported"),
        (SATURATES, (10, 9, 9), (0, 0, 1), "inconclusive"),
        (REVERSES, (10, 11, 11, 10), (0, 1, 0, 0), "supported"),
        (REVERSES, (10, 11, 11, 10), (0, 0, 0, 1), "inconclusive"),
        (BOTH, (10, 9, 10), (0, 1, 0), "inconclusive"),
    ],
)
def test_nothing_is_said_for_the_arm_that_lost_more_seeds(claim, means, lost, word):
    assert judge_claims([claim], "ABCD"[: len(means)], {"test_error": with_lost_seeds(means, lost)})[0].word == word


def test_the_cap_counts_the_diverged():
    found = judge_claims([HELPS], "AB", {"test_error": with_lost_seeds((10, 9), (0, 2))})[0]
    assert found.reason.startswith("0 of 5 of A and 2 of 5 of B did not train")
    assert found.notes[0].startswith("not supported, although the intervals show it")
    assert "B over A: conditional on convergence, 3 of 5 pairs" in found.notes


def test_a_trend_takes_two_seeds_that_all_its_arms_share():
    values = measured((10, 9, 8))
    values[0, :2] = values[2, 2:4] = np.nan
    found = judge_claims([FALLS], "ABC", {"test_error": evidence(values)})[0]
    assert found.word == "inconclusive"
    assert "A to C: cannot be estimated: 1 of 5 seeds have a value in all 3 arms" in found.reason


def test_a_crash_is_no_divergence():
    values = measured((10, 9))
    values[1, 0] = np.nan
    found = judge_claims([HELPS], "AB", {"test_error": evidence(values)})[0]
    assert (found.word, found.notes[-1]) == ("supported", "B over A: 4 of 5 pairs")


def test_an_endpoint_without_evidence_is_inconclusive():
    found = judge_claims([Helps(arm="B", over="A", endpoint="gradient_norm")], "AB", {})[0]
    assert (found.word, found.reason) == ("inconclusive", "there is no evidence on gradient norm of the first layer")


def test_a_conjunction_may_speak_of_several_endpoints():
    claim = AllOf(parts=(HELPS, Helps(arm="B", over="A", endpoint="time")))
    numbers = {"test_error": evidence(measured((10, 9))), "time": evidence(measured((70, 50)), unit="s")}
    assert judge_claims([claim], "AB", numbers)[0].word == "supported"
    assert (
        judge_claims([claim], "AB", numbers | {"time": evidence(measured((50, 70)), unit="s")})[0].word
        == "contradicted"
    )


def test_a_support_beyond_the_smallest_effect_says_so():
    assert "by more than ε = 0.3 points" in verdict(HELPS, (10, 9)).notes
    assert verdict(HELPS, (10, 9.75)).notes == ()


def test_equivalence_agrees_with_a_claim_that_it_does_not_help():
    assert verdict(DOES_NOT_HELP, (10, 10)).notes == ("practical equivalence agrees with the claim",)


def test_an_open_size_says_whether_it_is_inside_the_interval():
    assert "1 point is inside the two-sided interval" in verdict(HELPS_BY, (10, 9), noise=30).notes


def test_an_open_plateau_names_the_gain_that_is_not_excluded():
    found = verdict(SATURATES, (10, 9, 9), noise=30)
    bound = found.contrasts[1].high_one_sided
    assert f"a plateau cannot be told from a further gain of up to {bound:.3f} points" in found.notes


def test_a_reversal_shows_its_interaction_beside_it():
    (note,) = (note for note in verdict(REVERSES, (10, 11, 11, 10)).notes if note.startswith("interaction"))
    assert note.startswith("interaction, which alone proves no reversal: +2.0")


def test_a_noisy_arm_is_noted():
    values = measured((10, 9, 8))
    values[1] = [3, 15, 9, 6, 12]
    found = judge_claims([HELPS], "ABC", {"test_error": evidence(values)})[0]
    assert any("noisier than the other arms" in note for note in found.notes)


def test_an_interval_without_width_is_noted():
    values = np.array([[10.0, 11.0, 12.0], [9.0, 10.0, 11.0]])
    found = judge_claims([HELPS], "AB", {"test_error": evidence(values)})[0]
    assert found.word == "supported"
    assert any("the interval has no width" in note for note in found.notes)


def trained(*counts, run=5):
    untrained = np.array([[seed >= count for seed in range(run)] for count in counts])
    values = np.where(untrained, np.nan, 1.0)
    return {"trainability": evidence(values, untrained, smallest_effect=0.2, unit="share")}


@pytest.mark.parametrize(
    ("counts", "run", "word"),
    [
        ((1, 5), 5, "supported"),  # p = 0.048
        ((2, 5), 5, "inconclusive"),  # p = 0.17
        ((5, 1), 5, "contradicted"),
        ((0, 3), 3, "inconclusive"),  # three seeds can never: p = 0.10
        ((200, 200), 200, "practically equivalent"),
    ],
)
def test_trainability_is_decided_by_fishers_test(counts, run, word):
    claim = Helps(arm="B", over="A", endpoint="trainability")
    (verdict,) = judge_claims([claim], "AB", trained(*counts, run=run))
    assert verdict.word == word
    assert explain_finding(verdict.finding, verdict.reason).count("Fisher's exact p") == 1


def test_trainability_shares_its_level_among_the_family():
    claims = [Helps(arm=arm, over="A", endpoint="trainability") for arm in "BC"]
    first, _ = judge_claims(claims, "ABC", trained(1, 5, 5))
    assert (first.word, first.contrasts) == ("inconclusive", ())
    assert first.reason.startswith("5 of 5 seeds of B train, 1 of 5 of A (Fisher's exact p = 0.048, needed 0.025)")


def test_trainability_notes_count_the_seeds():
    found = judge_claims([Helps(arm="B", over="A", endpoint="trainability")], "AB", trained(0, 5))[0]
    assert found.notes == (
        "A: 0 of 5 seeds trained (95% interval 0% to 52%)",
        "B: 5 of 5 seeds trained (95% interval 48% to 100%)",
    )


def test_a_share_of_seeds_that_falls_falls():
    claim = FallsWith(order=("A", "B"), endpoint="trainability")
    assert judge_claims([claim], "AB", trained(60, 20, run=60))[0].word == "supported"
    assert judge_claims([claim], "AB", trained(20, 60, run=60))[0].word == "contradicted"


def test_an_arm_that_has_not_run_supports_nothing():
    numbers = {"trainability": evidence(np.full((2, 5), np.nan), unit="share")}
    found = judge_claims([Helps(arm="B", over="A", endpoint="trainability")], "AB", numbers)[0]
    assert (found.word, found.reason) == ("inconclusive", "no seed of A and B has run")


@pytest.mark.parametrize("claim", [HELPS, DOES_NOT_HELP, HELPS_BY, FALLS, SATURATES, BOTH])
@pytest.mark.parametrize("fill", [np.nan, np.inf])
def test_evidence_without_numbers_is_inconclusive(claim, fill):
    found = judge_claims([claim], "ABC", {"test_error": evidence(np.full((3, 5), fill))})[0]
    assert found.word == "inconclusive"
    assert "0 of 5 pairs are complete" in found.reason


def test_no_claims_have_no_verdicts():
    assert judge_claims([], ["A"], {"test_error": evidence(np.ones((1, 3)))}) == ()


def test_a_claim_about_an_unknown_arm_is_refused():
    with pytest.raises(ValueError, match="the claims name B; the arms are: A, C"):
        judge_claims([HELPS], ["A", "C"], {})


def test_evidence_of_two_shapes_is_refused():
    with pytest.raises(ValueError, match=r"values have shape \(2, 3\) and lost_to_divergence \(2, 2\)"):
        evidence(np.ones((2, 3)), np.zeros((2, 2), dtype=bool))


# Errors of five arms that rise, under four seeds: the line by 1.9 points, which four seeds cannot tell from none.
RISING = np.array(
    [
        [10.0, 11.2, 9.1, 10.7],
        [10.9, 10.1, 10.6, 11.0],
        [11.8, 10.6, 11.9, 10.5],
        [10.8, 12.4, 12.1, 11.4],
        [12.9, 11.3, 11.2, 13.1],
    ]
)


def test_an_open_fall_shows_the_interval_that_decides_and_its_direction():
    order = tuple("ABCDE")
    noisy = RISING + np.random.default_rng(0).normal(0, 1.5, RISING.shape)
    found = judge_claims([FallsWith(order=order)], order, {"test_error": evidence(noisy)})[0]
    assert found.word == "inconclusive"
    assert found.finding.startswith("Cannot tell whether test error falls from A to B to C to D to E: fitted change ")
    assert "points (simultaneous 95% interval −" in found.finding
    assert "includes 0" in found.reason


def test_a_fitted_line_that_rises_contradicts_a_fall_though_no_step_does():
    order = tuple("ABCDE")
    found = judge_claims([FallsWith(order=order)], order, {"test_error": evidence(RISING)})[0]
    assert found.word == "contradicted"
    assert found.finding.startswith(
        "The fitted line of test error rises from A to E: fitted change from A to E +1.9 points (simultaneous"
    )
    assert all(contrast.low < 0 < contrast.high for contrast in found.contrasts)


def test_a_difference_is_one_whichever_way_round_it_is_claimed():
    values = measured((10, 9, 8))
    claims = [HELPS, DoesNotHelp(arm="A", over="B"), Helps(arm="C", over="A")]
    found = judge_claims(claims, "ABC", {"test_error": evidence(values)})
    assert found[0].contrasts == estimate_contrasts(values, "ABC", [("A", "B"), ("A", "C")])[:1]
    assert found[1].contrasts == (found[0].contrasts[0].reverse(),)
    assert (found[1].contrasts[0].low, found[1].contrasts[0].over) == (-found[0].contrasts[0].high, "B")


def test_a_conjunct_that_is_practically_equivalent_contradicts_no_conjunction():
    claim = AllOf(parts=(Helps(arm="B", over="A"), DoesNotHelp(arm="C", over="A")))
    values = measured((10, 9.95, 9.9))
    values[1] += [0.9, -0.9, 0.6, -0.6, 0.0]
    assert judge_claims([claim], "ABC", {"test_error": evidence(values)})[0].word == "inconclusive"


def test_bounds_end_at_what_is_possible_and_the_verdict_says_so():
    values = np.array([[10.0, 90.0], [80.0, 20.0]])
    found = judge_claims([HELPS], "AB", {"test_error": evidence(values)})[0]
    assert (found.contrasts[0].low, found.contrasts[0].high) == (-100, 100)
    assert "change from A to B 0.0 points (95% interval −100.0 to 100.0)" in found.finding
    assert "B over A: the interval is cut at ±100 points, the largest possible" in found.notes


def test_an_interaction_without_complete_seeds_cannot_be_estimated():
    values = measured((10, 11, 11, 10))
    values[3] = np.nan
    notes = judge_claims([REVERSES], "ABCD", {"test_error": evidence(values)})[0].notes
    assert any(note.endswith("cannot be estimated: 0 of 5 seeds are complete in all four arms") for note in notes)


def test_numbers_are_plain():
    numbers = evidence(1000 * measured((10, 9), noise=30), unit="s", smallest_effect=1320.4)
    found = judge_claims([Helps(arm="B", over="A", endpoint="time")], "AB", {"time": numbers})[0]
    assert "e+" not in found.finding + found.reason + "".join(found.notes)
    assert "1,320 s" in found.reason


def test_one_test_example_is_no_measure_of_noise():
    values = np.array([[10.0, 12.0], [9.0, 11.0]])
    coarse = evidence(values, resolution=1.0)
    assert judge_claims([HELPS], "AB", {"test_error": evidence(values)})[0].word == "supported"
    assert judge_claims([HELPS], "AB", {"test_error": coarse})[0].word == "inconclusive"


# -- metrics of results that were measured elsewhere -------------------------------------------------------------------

ACCURACY = Metric(name="mAP", higher_is_better=True)


def on_metric(claim, metric):
    """The claim, and its parts, on a metric."""
    changes = {"endpoint": metric}
    if isinstance(claim, AllOf):
        changes["parts"] = tuple(replace(part, endpoint=metric) for part in claim.parts)
    return replace(claim, **changes)


@pytest.mark.parametrize("claim", [HELPS, DOES_NOT_HELP, HELPS_BY, FALLS, SATURATES, REVERSES, BOTH])
@pytest.mark.parametrize("means", [(10, 9, 8, 8), (10, 11, 12, 11), (10, 9, 9, 10), (10, 10, 10, 10)])
@pytest.mark.parametrize("noise", [1, 12])
def test_a_metric_whose_rise_is_better_is_judged_as_its_complement(claim, means, noise):
    errors = measured(means, noise=noise)
    arms = "ABCD"
    (by_error,) = judge_claims([claim], arms, {"test_error": evidence(errors)})
    numbers = evidence(100 - errors, higher_is_better=True)
    (by_accuracy,) = judge_claims([on_metric(claim, ACCURACY)], arms, {ACCURACY: numbers})
    assert by_accuracy.word == by_error.word
    for mine, other in zip(by_accuracy.contrasts, by_error.contrasts, strict=True):
        assert (mine.estimate, mine.low, mine.high) == pytest.approx((other.estimate, other.low, other.high), abs=1e-9)


def test_a_metric_whose_rise_is_better_is_told_by_its_name_and_sign():
    numbers = evidence(100 - measured((10, 9, 8)), higher_is_better=True)
    (found,) = judge_claims([on_metric(FALLS, ACCURACY)], "ABC", {ACCURACY: numbers})
    assert found.claim.sentence == "mAP rises from A to B to C."
    assert found.finding.startswith(
        "The fitted line of mAP rises from A to C: fitted change from A to C +1.997 points (95% interval 1.977 to"
    )
    falling = evidence(measured((10, 9, 8)), higher_is_better=True)
    (lower,) = judge_claims([on_metric(HELPS, ACCURACY)], "ABC", {ACCURACY: falling})
    assert lower.word == "contradicted"
    assert lower.finding.startswith("B is worse than A in mAP: change from A to B −0.99")


@pytest.mark.parametrize(
    ("claim_class", "means", "finding"),
    [
        (Helps, (2, 1), "B has a lower gradient norm of the first layer than A"),
        (Helps, (1, 2), "B has a higher gradient norm of the first layer than A"),
        (DoesNotHelp, (1, 2), "B does not have a lower gradient norm of the first layer than A by"),
        (DoesNotHelp, (2, 1), "B has a lower gradient norm of the first layer than A"),
    ],
)
def test_a_gradient_norm_is_found_lower_or_higher_and_not_better(claim_class, means, finding):
    claim = claim_class(arm="B", over="A", endpoint="gradient_norm")
    (found,) = judge_claims([claim], "AB", {"gradient_norm": evidence(measured(means), unit="")})
    assert found.finding.startswith(finding)


METRICS = tuple(Metric(name=name, higher_is_better=False) for name in ("error_1", "error_2", "error_3", "error_4"))


@pytest.mark.parametrize("num_endpoints", [2, 4])
def test_a_conjunction_over_several_endpoints_is_contradicted_at_a_share_of_the_level(num_endpoints):
    # Ten points worse, with a p-value of about 0.03: enough at 5%, too little at 2.5% or less.
    values = np.array([[0.0, 0, 0, 0, 0], [1.0, 10, 6, 3, 8]])
    claim = AllOf(parts=tuple(on_metric(HELPS, metric) for metric in METRICS[:num_endpoints]))
    (found,) = judge_claims([claim], "AB", {metric: evidence(values) for metric in METRICS[:num_endpoints]})
    level = pingouin.ttest(values[1], values[0], paired=True)["p_val"].iloc[0]
    assert 0.0125 < level < 0.05
    assert (found.word == "contradicted") == (level < 0.05 / num_endpoints)


@pytest.mark.slow
@pytest.mark.parametrize("num_endpoints", [2, 4])
def test_a_true_conjunction_over_several_endpoints_is_seldom_contradicted(num_endpoints):
    random, num_studies = np.random.default_rng(3), 3000
    metrics = METRICS[:num_endpoints]
    claim = AllOf(parts=tuple(on_metric(HELPS, metric) for metric in metrics))
    num_wrong = 0
    for _ in range(num_studies):
        numbers = {metric: evidence(random.normal(size=(2, 5)), smallest_effect=0.0) for metric in metrics}
        num_wrong += judge_claims([claim], "AB", numbers)[0].word == "contradicted"
    # At no difference, any contradiction is wrong; one-sided, the rule has half of 5%. Three standard errors.
    assert num_wrong / num_studies < 0.025 + 3 * np.sqrt(0.025 * 0.975 / num_studies)


def test_a_trend_speaks_for_no_arm_that_lost_more_seeds_than_one_it_is_favored_over():
    values = measured((10, 5, 10, 10))
    (found,) = judge_claims([FallsWith(order=tuple("ABCD"))], "ABCD", {"test_error": evidence(values)})
    assert found.word == "contradicted"
    assert found.finding.startswith("The fitted line of test error rises from A to D")
    lost = np.zeros(values.shape, dtype=bool)
    lost[1, :3] = True
    partial = evidence(np.where(lost, np.nan, values), lost_to_divergence=lost)
    (found,) = judge_claims([FallsWith(order=tuple("ABCD"))], "ABCD", {"test_error": partial})
    assert found.word == "inconclusive"
    assert "3 of 5 of B" in found.reason
    assert "the rest cannot speak for all" in found.reason


@pytest.mark.parametrize(
    ("means", "margin", "is_noted"),
    [((10, 10, 9.85), 0.3, True), ((10, 10, 10), 1.5, False), ((10, 10, 10.25), 0.3, False)],
)
def test_a_plateau_is_said_to_be_open_only_where_a_gain_is(means, margin, is_noted):
    noise = 30.0 if is_noted else 1.0
    numbers = evidence(measured(means, noise), smallest_effect=margin)
    (found,) = judge_claims([SATURATES], "ABC", {"test_error": numbers})
    notes = [note for note in found.notes if note.startswith("a plateau cannot be told")]
    assert found.word == "inconclusive"
    assert bool(notes) == is_noted
    assert not any("-" in note or "−" in note for note in notes)


def test_small_fractions_are_printed_with_the_digits_that_decide():
    values = np.array([[0.9, 0.91, 0.9, 0.92, 0.91], [0.8959, 0.9058, 0.896, 0.9159, 0.9059]])
    (found,) = judge_claims([HELPS], "AB", {"test_error": evidence(values, unit="", smallest_effect=0.0005)})
    assert found.word == "supported"
    low, high = found.finding.rpartition("interval ")[2].rstrip(")").split(" to ")
    assert low != high


def test_a_fitted_change_is_cut_at_what_a_line_can_change():
    values = measured((99, 97, 3, 1))
    (found,) = judge_claims([FallsWith(order=tuple("ABCD"))], "ABCD", {"test_error": evidence(values)})
    assert "fitted change from A to D −116" in found.finding.replace("-", "−")
    assert "interval −100.0 to −100.0" not in found.finding.replace("-", "−")
