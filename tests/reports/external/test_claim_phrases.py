"""Claims from phrases."""

import pytest

from ablations import AllOf, DoesNotHelp, FallsWith, Helps, HelpsBy, Metric, Reverses, SaturatesAt
from reports.external.claim_phrases import PHRASES, parse_claim
from reports.external.results_columns import ResultsError

ARMS = ("A", "B", "C", "D", "A and B", "wide, net")
ERROR, ACCURACY = Metric(name="error"), Metric(name="accuracy", higher_is_better=True)


@pytest.mark.parametrize(
    ("phrase", "claim"),
    [
        ("B helps over A", Helps(endpoint=ERROR, arm="B", over="A")),
        ("  B   improves on A. ", Helps(endpoint=ERROR, arm="B", over="A")),
        ("A and B is better than 'wide, net'", Helps(endpoint=ERROR, arm="A and B", over="wide, net")),
        ("B does not help over A", DoesNotHelp(endpoint=ERROR, arm="B", over="A")),
        ("B helps over A by 0.5 ± 0.2", HelpsBy(endpoint=ERROR, arm="B", over="A", by=0.5, within=0.2)),
        ("B helps over A by 0.5 +- 0.2", HelpsBy(endpoint=ERROR, arm="B", over="A", by=0.5, within=0.2)),
        ("error falls with A, B, C", FallsWith(endpoint=ERROR, order=("A", "B", "C"))),
        ("improves from A to B to wide, net", FallsWith(endpoint=ERROR, order=("A", "B", "wide, net"))),
        ("falls up to B along A, B, C", SaturatesAt(endpoint=ERROR, arm="B", order=("A", "B", "C"))),
        (
            "B is worse than A, and D is better than C",
            Reverses(endpoint=ERROR, worse=("A", "B"), better=("C", "D")),
        ),
        (
            "B helps over A and C does not help over A",
            AllOf(
                endpoint=ERROR,
                parts=(Helps(endpoint=ERROR, arm="B", over="A"), DoesNotHelp(endpoint=ERROR, arm="C", over="A")),
            ),
        ),
    ],
)
def test_a_phrase_is_the_claim_that_it_says(phrase, claim):
    assert parse_claim(phrase, ARMS, ERROR) == claim


@pytest.mark.parametrize("phrase", PHRASES)
def test_every_phrase_that_an_error_offers_is_understood(phrase):
    assert parse_claim(phrase, ARMS, ERROR).arms


@pytest.mark.parametrize("claim", [parse_claim(phrase, ARMS, ERROR) for phrase in PHRASES])
def test_the_sentence_of_a_simple_claim_is_a_phrase(claim):
    if isinstance(claim, (Helps, DoesNotHelp, FallsWith, HelpsBy)):
        assert parse_claim(claim.sentence.replace(" in error", ""), ARMS, ERROR) == claim


@pytest.mark.parametrize(
    ("phrase", "refused"),
    [
        ("B rocks", "is not understood; expected one of B helps over A"),
        ("B helps over Z", "names 'Z', which is no arm of the table; expected A, B, C"),
        ("'wide' does not help over A", "names 'wide', which is no arm"),
        ("Z helps over A by 0.5 +- 0.2", "names 'Z', which is no arm"),
        ("error falls with A, Z, C", "names 'Z', which is no arm"),
        ("falls up to Z along A, B, C", "names 'Z', which is no arm"),
        ("Z is worse than A, and C is better than B", "names 'Z', which is no arm"),
        ("B is worse than A", 'tells of a worsening; expected an improvement: "A helps over B"'),
        ("B helps over B", "names an arm twice"),
        ("error rises with A, B", "expected 'falls' or 'improves'"),
        ("falls up to A along A, B, C", "expected an inner arm"),
        ("B helps over A by 1 +- 0", "expected a margin above 0"),
        ("B helps over A by 1.2.3 +- 1", "not a number"),
        ("", "is not understood"),
    ],
)
def test_a_phrase_that_says_no_claim_is_refused(phrase, refused):
    with pytest.raises(ResultsError, match=refused):
        parse_claim(phrase, ARMS, ERROR)


def test_a_rise_improves_where_higher_is_better():
    assert parse_claim("accuracy rises with A, B", ARMS, ACCURACY) == FallsWith(endpoint=ACCURACY, order=("A", "B"))
    with pytest.raises(ResultsError, match="expected 'rises' or 'improves'"):
        parse_claim("accuracy falls with A, B", ARMS, ACCURACY)


def test_the_phrases_that_are_offered_are_those_that_the_metric_admits():
    with pytest.raises(ResultsError, match="rises with A, B, C") as refused:
        parse_claim("B rocks", ARMS, ACCURACY)
    assert "falls" not in str(refused.value)
    assert parse_claim("rises with A, B, C", ARMS, ACCURACY) == FallsWith(order=("A", "B", "C"), endpoint=ACCURACY)
