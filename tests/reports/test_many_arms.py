"""A study of 40 arms, and curves of 5,000 epochs: what a page says and draws has a bound. Made-up numbers."""

from __future__ import annotations

import re

import numpy as np
import pytest

from ablations import FallsWith, Helps
from lightning_modules.specs.text import join_words
from reports.comparison.comparison import compare_arms
from reports.figures.study import report_figures
from reports.figures.style import MAX_CURVE_POINTS, choose_arms, join_descriptions, thin_curve
from reports.formatting import MAX_FINDINGS, condense_findings
from reports.renderers import markdown
from tests.reports.records import record

ARMS = tuple(f"width ×{0.25 + 0.05 * index:.2f} of the protocol" for index in range(40))


@pytest.fixture(scope="module")
def wide():
    states = {
        (arm, seed): "non-finite" for index, arm in enumerate(ARMS) for seed in range(2) if (index + seed) % 3 == 0
    }
    return compare_arms(
        record(
            arms=ARMS,
            seeds=2,
            states=states,
            claims=(FallsWith(order=ARMS),),
            changes=dict.fromkeys(ARMS, ()),
            built=dict.fromkeys(ARMS[1:], ()),
        )
    )


def test_a_claim_on_forty_arms_and_its_reason_are_a_few_lines(wide):
    (claim,) = wide.claims
    assert len(claim.sentence) < 130
    assert "with each of the 39 steps" in claim.sentence
    assert len(claim.reason) < 600
    assert " cases)" in claim.reason
    assert len(claim.notes) <= MAX_FINDINGS + 1
    assert len(claim.confounds) <= MAX_FINDINGS


def test_no_block_of_prose_grows_with_the_arms(wide):
    page = markdown.render_report(wide, report_figures(wide))
    assert max(len(line) for line in page.splitlines()) < 1_400
    assert "| Complete pairs, of seeds |" in page
    assert "Complete pairs of seeds:" not in page


def test_figures_of_one_panel_an_arm_are_bounded(wide):
    figures = {figure.name: figure for figure in report_figures(wide)}
    assert len(figures["gradients"].panels) <= 8
    assert "Shown: 8 of 40 arms" in figures["gradients"].caption
    assert max(panel.height_inches for figure in figures.values() for panel in figure.panels) <= 9


def arms_in(panel, mark=""):
    return {int(arm) for arm in re.findall(rf'data-arm="(\d+)"{mark}', panel.inline)}


def test_learning_curves_have_every_arm_a_dozen_of_them_in_color(wide):
    (figure,) = [figure for figure in report_figures(wide) if figure.name == "learning"]
    assert len(figure.panels) == 4
    for panel in figure.panels:
        quiet = arms_in(panel, ' data-quiet=""')
        assert arms_in(panel) == set(range(40))
        assert len(quiet) == 28
        assert not {0, 39} & quiet
        assert {mark.arm for mark in panel.marks} == set(range(40))
    assert "In color: 12 of 40 arms, the baseline and arms that the claims name." in figure.caption


def test_the_arms_of_claims_are_the_ones_in_color():
    arms = ARMS[:13]
    compared = compare_arms(record(arms=arms, seeds=2, claims=(Helps(arm=arms[7], over=arms[3]),)))
    (figure,) = [figure for figure in report_figures(compared) if figure.name == "learning"]
    assert arms_in(figure.panels[0]) - arms_in(figure.panels[0], ' data-quiet=""') == {0, 3, 7}


def test_a_dozen_arms_are_all_in_color():
    compared = compare_arms(record(arms=ARMS[:12], seeds=2, claims=(Helps(arm=ARMS[7], over=ARMS[3]),)))
    (figure,) = [figure for figure in report_figures(compared) if figure.name == "learning"]
    assert arms_in(figure.panels[0], ' data-quiet=""') == set()
    assert "In color" not in figure.caption


def test_the_arms_that_are_drawn_hold_the_first_and_the_last():
    assert choose_arms(3, 8) == [0, 1, 2]
    chosen = choose_arms(40, 8)
    assert (chosen[0], chosen[-1], len(set(chosen))) == (0, 39, 8)


def test_a_thinned_curve_keeps_its_ends_and_its_peaks():
    curve = np.sin(np.arange(5_000) / 300)
    curve[1_234], curve[4_321] = 9.0, -9.0
    shown = thin_curve(curve)
    assert len(shown) <= MAX_CURVE_POINTS
    assert {0, 1_234, 4_321, 4_999} <= set(shown.tolist())
    assert (np.diff(shown) > 0).all()


def test_a_short_curve_is_drawn_point_by_point():
    assert thin_curve(np.arange(30.0)).tolist() == list(range(30))


def test_words_beyond_a_number_are_counted():
    assert join_words("ABC", max_words=2) == "A, B and C"
    assert join_words("ABCD", max_words=2) == "A, B and 2 others"


def test_many_findings_are_counted_by_their_text():
    findings = [(f"arm {index}", "0 of 2 pairs") for index in range(61)] + [("last", "noisy")]
    assert condense_findings(findings) == ["0 of 2 pairs (in 61 of 62 cases)", "last: noisy"]
    assert condense_findings(findings[:2]) == ["arm 0: 0 of 2 pairs", "arm 1: 0 of 2 pairs"]


def test_findings_that_all_differ_end_in_a_count():
    condensed = condense_findings([(f"arm {index}", f"interval {index}") for index in range(40)])
    assert len(condensed) == MAX_FINDINGS
    assert condensed[-1] == "36 further findings: see the tables"


def test_a_long_text_alternative_says_how_much_it_leaves_out():
    assert join_descriptions([str(number) for number in range(40)]).endswith("10; 28 more between, in the tables; 39")
