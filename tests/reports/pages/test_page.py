"""The page: self-contained, well formed, honest about what is missing. Made-up numbers."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from reports.comparison.comparison import compare_arms
from reports.figures.study import report_figures
from reports.renderers.html import render_report
from tests.reports.records import HOSTILE, record, trial

VOID = {"meta", "link", "br", "hr", "img", "input"}


class Outline(HTMLParser):
    """Collects tags, ids and text, and checks that what closes was open."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.ids += [value for name, value in attrs if name == "id"]
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.ids += [value for name, value in attrs if name == "id"]
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not set(self.open) & {"style", "script"}:
            self.texts.append(data)


def page(study) -> str:
    compared = compare_arms(study)
    return render_report(compared, report_figures(compared))


def bare(study) -> str:
    """The page without its drawings, which take most of the time."""
    return render_report(compare_arms(study), ())


def outline(text: str) -> Outline:
    parser = Outline()
    parser.feed(text)
    parser.close()
    return parser


def words(text: str) -> str:
    return re.sub(r"\s+", " ", " ".join(outline(text).texts))


@pytest.fixture(scope="module")
def full() -> str:
    return page(record(states={("B", 3): "non-finite", ("D", 1): "failed", ("E", 2): "running"}))


def test_nothing_is_fetched_from_anywhere(full):
    assert "http://" not in full
    assert "https://" not in full
    assert "@import" not in full
    sources = [value for _, name, value in outline(full).attributes if name in ("src", "href", "srcset", "xlink:href")]
    assert all(value.startswith(("#", "data:")) for value in sources)


def test_elements_nest_and_ids_are_unique(full):
    parsed = outline(full)
    assert parsed.open == []
    assert len(set(parsed.ids)) == len(parsed.ids)
    assert {"h1", "main", "header", "footer", "figure", "figcaption", "caption"} <= set(parsed.tags)
    assert parsed.tags.count("h1") == 1


def test_every_figure_has_a_text_alternative(full):
    parsed = outline(full)
    labeled = [
        value for tag, name, value in parsed.attributes if (tag, name) == ("div", "aria-label") and "Test" in value
    ]
    assert parsed.tags.count("svg") == full.count('role="img"') == 21
    assert labeled
    assert all(len(label) > 30 for label in labeled)


def test_it_opens_with_the_question_and_the_answer(full):
    told = words(full.split("</header>")[0])
    assert "Does the error of a VGG network fall" in told
    assert "All 3 claims are inconclusive." in told
    assert told.index("VGG network fall") < told.index("All 3 claims")


def test_sections_stand_in_the_order_of_the_reading(full):
    titles = re.findall(r'<section id="(\w+)"', full)
    assert titles == ["arms", "contract", "figures", "confusions", "limits", "failures", "reproduction", "citation"]


def test_verdicts_show_a_symbol_and_a_word_beside_their_color(full):
    assert re.search(r'class="badge inconclusive"><span aria-hidden="true">\?</span>inconclusive<', full)


def test_failed_diverged_and_running_trials_are_named(full):
    told = words(full)
    assert "4 of 5 (1 non-finite)" in told
    assert "4 of 5 (1 failed)" in told
    assert "4 of 4 (1 running)" in told
    assert "MemoryError: 12 GiB" in told


def test_published_figures_stand_in_their_own_column_with_source_and_caveat(full):
    told = words(full)
    assert "Published %, other data" in told
    assert "Source: Simonyan & Zisserman 2015, Table 3 (S = Q = 256). Caveat: one run per network" in told


def test_how_to_reproduce_it_is_told(full):
    told = words(full)
    assert "ablate run depth --protocol digits --seeds 5" in told
    assert "1f3c9e2ab47d" in told
    assert "torch 2.13.0" in told
    assert "sha256:5d41402abc4b2a76b9719d911017c592" in told


def test_hostile_names_stay_text():
    text = page(record(arms=HOSTILE, seeds=2, question="<img src=x onerror=alert(1)> & co?"))
    assert "<script>alert" not in text
    assert "<img" not in text
    told = words(text)
    assert all(re.sub(r"\s+", " ", name) in told for name in HOSTILE)
    assert "<img src=x onerror=alert(1)> & co?" in told


def test_a_hostile_traceback_stays_text():
    failed = trial("A", 0, 1.0, "failed")
    broken = replace(failed.result, error="Traceback\n</script><script>alert(1)</script>")
    text = bare(record(trials=(replace(failed, result=broken),)))
    assert "<script>alert(1)" not in text
    assert "</script><script>alert(1)</script>" in words(text)


@pytest.mark.parametrize(
    ("study", "said"),
    [
        (record(trials=()), "No trial has finished with a test error, so there is nothing to compare yet."),
        (record(seeds=1), "One seed: two trained networks can be told apart, two methods cannot."),
        (record(arms=("A",)), "No claim was registered."),
        (record(seeds=0), "No trial has finished"),
        (record(states={("E", seed): "absent" for seed in range(5)}), "No test error for E"),
        (record(trials=(trial("A", 0, math.nan),)), "1 of 20 planned trials finished without a finite test error."),
        (
            record(trials=(trial("A", 0, 9.0, "running"),)),
            "1 of 20 planned trials still running: what follows is provisional.",
        ),
    ],
)
def test_a_study_that_lacks_something_gives_a_page_that_says_so(study, said):
    assert said in words(bare(study))


def test_a_single_claim_is_told_once():
    text = bare(record(arms=("A", "B"), claims=record().registration.claims[1:2]))
    assert words(text.split("</header>")[0]).count("B improves on A in test error.") == 1


def test_the_same_record_gives_the_same_page():
    assert bare(record()) == bare(record())
