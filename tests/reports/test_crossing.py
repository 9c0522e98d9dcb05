"""Two factors crossed, from the record to every form of the report. Made-up numbers."""

from __future__ import annotations

import csv
import io
import math
import re

import pytest
from records import CROSSED, DEEP_PLAIN, FACTORIAL, crossed, record

from ablations import Factor, Factorial
from reports import csv_tables, latex, markdown, page
from reports.comparison import compare
from reports.compile import documents
from reports.figures import figures
from reports.statistics import factorial


@pytest.fixture(scope="module")
def study():
    return crossed()


@pytest.fixture(scope="module")
def compared(study):
    return compare(study)


def test_effects_are_those_of_the_statistics(study, compared):
    expected = factorial(study.errors(), CROSSED, FACTORIAL.cells, FACTORIAL.rows.levels, FACTORIAL.columns.levels)
    found = compared.effects[0].effects
    assert [(each.kind, each.estimate.value, each.estimate.low) for each in found] == [
        (each.kind, each.estimate, each.low) for each in expected
    ]


def test_training_error_is_crossed_where_a_claim_is_about_it(compared):
    assert [each.endpoint for each in compared.effects] == ["test_error", "training_error"]
    assert [each.endpoint for each in compare(crossed(claims=())).effects] == ["test_error"]


def test_a_study_without_a_factorial_has_no_effects():
    compared = compare(record())
    assert compared.effects == ()
    assert "effects.csv" not in documents(compared, ())
    assert "Two factors crossed" not in markdown.render(compared, ())


def test_an_interaction_is_said_in_the_words_of_the_factors(compared):
    (sentence,) = compared.effects[0].sentences
    pattern = (
        r"Changing depth from shallow to deep raises test error by \d\.\d+ points under plain and lowers it by "
        r"\d\.\d+ points under residual; the difference of the two is \+\d\.\d+ \[\d\.\d+, \d\.\d+\] points, "
        r"which excludes 0: what depth does depends on shortcuts\."
    )
    assert re.fullmatch(pattern, sentence)


def test_the_two_changes_differ_by_the_interaction(compared):
    (sentence,) = compared.effects[0].sentences
    raised, lowered, difference = map(float, re.findall(r"(?:by |is \+)(\d\.\d+)", sentence))
    assert lowered + raised == pytest.approx(difference, abs=0.011)


def test_factors_that_only_add_up_are_not_said_to_interact():
    square = Factorial(
        rows=Factor(name="norm", levels=("none", "batch")),
        columns=Factor(name="depth", levels=("8", "11")),
        cells=(("a", "b"), ("c", "d")),
    )
    (sentence,) = compare(record(("a", "b", "c", "d"), factorial=square, claims=())).effects[0].sentences
    assert re.match(
        r"Changing depth from 8 to 11 lowers test error by .* points under none and by .* under batch;", sentence
    )
    assert sentence.endswith("includes 0: these seeds do not show that what depth does depends on norm.")


def test_a_cell_without_a_figure_leaves_nothing_to_say():
    lost = {(DEEP_PLAIN, seed): "diverged" for seed in range(4)}
    compared = compare(crossed(states=lost))
    assert "nothing can be said of test error" in compared.effects[0].sentences[0]
    assert math.isnan(compared.effects[0].effects[2].estimate.value)
    drawn = figures(compared)
    assert "interaction" in [figure.name for figure in drawn]
    assert all(panel.inline for figure in drawn if figure.name == "interaction" for panel in figure.panels)
    assert page.render(compared, drawn)


def test_three_levels_have_a_sentence_for_each_interaction():
    arms = ("a", "b", "c", "d", "e", "f")
    wide = Factorial(
        rows=Factor(name="norm", levels=("none", "batch")),
        columns=Factor(name="depth", levels=("8", "11", "16")),
        cells=(arms[:3], arms[3:]),
    )
    compared = compare(record(arms, seeds=3, factorial=wide, claims=()))
    assert len(compared.effects[0].effects) == 5
    assert [sentence[:31] for sentence in compared.effects[0].sentences] == [
        "Changing depth from 8 to 11 low", "Changing depth from 8 to 16 low",
    ]  # fmt: skip


def test_the_section_stands_in_every_form(compared):
    drawn = figures(compared)
    html, text, article = page.render(compared, drawn), markdown.render(compared, drawn), latex.render(compared, drawn)
    assert re.findall(r'<section id="(\w+)"', html)[:3] == ["arms", "crossed", "contract"]
    assert html.count('id="figure-interaction"') == 1
    assert "## Two factors crossed: shortcuts and depth" in text
    assert text.index("figures/interaction-test-error.svg") < text.index("## What changed, and what was held")
    assert "takes twice the seeds" in text
    assert r"\section*{Two factors crossed: shortcuts and depth}" in article
    assert "figures/interaction-training-error.pdf" in article


def test_what_else_a_factor_moves_stands_under_its_effects(compared):
    assert compared.effects[0].bundles == (
        "depth: moved weight layers, parameters, multiply-adds, receptive field and non-linearities",
    )
    assert "Bundles, in some cells at least: depth: moved weight layers," in markdown.render(compared, ())


def test_factors_that_move_nothing_else_have_no_such_note():
    same = {arm: {"weight_layers": 20, "parameters": 270_000} for arm in CROSSED}
    compared = compare(crossed(properties=same))
    assert compared.effects[0].bundles == ()
    assert "Bundles, in some cells" not in markdown.render(compared, ())


def test_effects_are_written_unrounded(compared):
    rows = list(csv.DictReader(io.StringIO(csv_tables.effects_table(compared))))
    assert [row["effect"] for row in rows] == ["rows", "columns", "interaction"] * 2
    assert (rows[0]["row_to"], rows[0]["column_to"]) == ("residual", "")
    assert float(rows[2]["lower_by"]) == pytest.approx(compared.effects[0].effects[2].estimate.value)


def test_the_plot_tells_every_cell_in_words(compared):
    (figure,) = (figure for figure in figures(compared) if figure.name == "interaction")
    assert [panel.name for panel in figure.panels] == ["interaction-test-error", "interaction-training-error"]
    told = figure.panels[0].alternative
    assert all(words in told for words in ("plain, shallow 8.", "plain, deep 9.", "residual, deep 7."))
