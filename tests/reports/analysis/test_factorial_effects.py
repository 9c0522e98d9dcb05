"""Two factors crossed, from the record to every form of the report. Made-up numbers."""

from __future__ import annotations

import csv
import io
import math
import re
from dataclasses import replace

import pytest

from ablations import Factor, Factorial
from reports.comparison.comparison import compare_arms
from reports.figures.study import report_figures
from reports.pages.study import render_documents
from reports.renderers import csv as csv_tables
from reports.renderers import html, latex, markdown
from reports.statistics import estimate_effects
from tests.reports.records import CROSSED, DEEP_PLAIN, FACTORIAL, crossed, record


@pytest.fixture(scope="module")
def study():
    return crossed()


@pytest.fixture(scope="module")
def compared(study):
    return compare_arms(study)


def test_effects_are_those_of_the_statistics(study, compared):
    expected = estimate_effects(
        study.metric_table(), CROSSED, FACTORIAL.cells, FACTORIAL.rows.levels, FACTORIAL.columns.levels
    )
    found = compared.factorial_analyses[0].effects
    assert [(each.kind, each.estimate.value, each.estimate.low) for each in found] == [
        (each.kind, each.estimate, each.low) for each in expected
    ]


def test_training_error_is_crossed_where_a_claim_is_about_it(compared):
    assert [each.endpoint for each in compared.factorial_analyses] == ["test_error", "training_error"]
    assert [each.endpoint for each in compare_arms(crossed(claims=())).factorial_analyses] == ["test_error"]


def test_a_study_without_a_factorial_has_no_effects():
    compared = compare_arms(record())
    assert compared.factorial_analyses == ()
    assert "effects.csv" not in render_documents(compared, ())
    assert "Factorial design" not in markdown.render_report(compared, ())


def test_an_interaction_is_said_in_the_words_of_the_factors(compared):
    (sentence,) = compared.factorial_analyses[0].sentences
    pattern = (
        r"Changing depth from shallow to deep raises test error by \d\.\d+ points under plain and lowers it by "
        r"\d\.\d+ points under residual; the difference of the two is \+\d\.\d+ \[\d\.\d+, \d\.\d+\] points, "
        r"which excludes 0: the effect of depth depends on shortcuts\."
    )
    assert re.fullmatch(pattern, sentence)


def test_the_two_changes_differ_by_the_interaction(compared):
    (sentence,) = compared.factorial_analyses[0].sentences
    raised, lowered, difference = map(float, re.findall(r"(?:by |is \+)(\d\.\d+)", sentence))
    assert lowered + raised == pytest.approx(difference, abs=0.011)


def test_factors_that_only_add_up_are_not_said_to_interact():
    square = Factorial(
        rows=Factor(name="norm", levels=("none", "batch")),
        columns=Factor(name="depth", levels=("8", "11")),
        cells=(("a", "b"), ("c", "d")),
    )
    (sentence,) = (
        compare_arms(record(("a", "b", "c", "d"), factorial=square, claims=())).factorial_analyses[0].sentences
    )
    assert re.match(
        r"Changing depth from 8 to 11 lowers test error by .* points under none and by .* under batch;", sentence
    )
    assert sentence.endswith("includes 0: these seeds do not show that the effect of depth depends on norm.")


def test_a_cell_without_a_figure_leaves_nothing_to_say():
    lost = {(DEEP_PLAIN, seed): "at chance" for seed in range(4)}
    compared = compare_arms(crossed(states=lost))
    assert "nothing can be said of test error" in compared.factorial_analyses[0].sentences[0]
    assert math.isnan(compared.factorial_analyses[0].effects[2].estimate.value)
    drawn = report_figures(compared)
    assert "interaction" in [figure.name for figure in drawn]
    assert all(panel.inline for figure in drawn if figure.name == "interaction" for panel in figure.panels)
    assert html.render_report(compared, drawn)


def test_three_levels_have_a_sentence_for_each_interaction():
    arms = ("a", "b", "c", "d", "e", "f")
    wide = Factorial(
        rows=Factor(name="norm", levels=("none", "batch")),
        columns=Factor(name="depth", levels=("8", "11", "16")),
        cells=(arms[:3], arms[3:]),
    )
    compared = compare_arms(record(arms, seeds=3, factorial=wide, claims=()))
    assert len(compared.factorial_analyses[0].effects) == 5
    assert [sentence[:31] for sentence in compared.factorial_analyses[0].sentences] == [
        "Changing depth from 8 to 11 low", "Changing depth from 8 to 16 low",
    ]  # fmt: skip


def test_the_section_stands_in_every_form(compared):
    drawn = report_figures(compared)
    page, text, article = (
        html.render_report(compared, drawn),
        markdown.render_report(compared, drawn),
        latex.render_report(compared, drawn),
    )
    assert re.findall(r'<section id="(\w+)"', page)[:3] == ["arms", "crossed", "contract"]
    assert page.count('id="figure-interaction"') == 1
    assert "## Factorial design: shortcuts × depth" in text
    assert text.index("figures/interaction-test-error.svg") < text.index("## What changed, and what was held")
    assert "takes twice as many seeds" in text
    assert r"\section*{Factorial design: shortcuts $\times$ depth}" in article
    assert "figures/interaction-training-error.pdf" in article


def test_what_else_a_factor_moves_stands_under_its_effects(compared):
    assert compared.factorial_analyses[0].confounds == (
        "depth: changed weight layers, parameters, multiply-adds, receptive field and non-linearities",
    )
    (confounds,) = compared.factorial_analyses[0].confounds
    assert f"Confounded, at least in some cells: {confounds}." in markdown.render_report(compared, ())


def test_intervals_end_at_what_is_possible_and_tables_say_so():
    wild = crossed(seeds=2)
    trials = []
    for trial in wild.trials:
        error = 80.0 if (trial.seed == 1) == ("deep" in trial.arm) else 12.0
        trials.append(replace(trial, result=replace(trial.result, metrics={"test_error": error})))
    compared = compare_arms(replace(wild, trials=tuple(trials)))
    analysis = compared.factorial_analyses[0]
    assert [(each.estimate.low, each.estimate.high) for each in analysis.effects] == [
        (-100, 100), (-100, 100), (-200, 200),
    ]  # fmt: skip
    assert "[−200.0, 200.0] points" in analysis.sentences[0]
    for page in (
        markdown.render_report(compared, ()),
        html.render_report(compared, ()),
        latex.render_report(compared, ()),
    ):
        assert page.count("Intervals are cut at what is possible") >= 3  # results, cell means, effects


def test_tables_of_whole_intervals_have_no_such_note(compared):
    assert "Intervals are cut" not in markdown.render_report(compared, ())


def test_factors_that_move_nothing_else_have_no_such_note():
    same = {arm: {"weight_layers": 20, "parameters": 270_000} for arm in CROSSED}
    compared = compare_arms(crossed(properties=same))
    assert compared.factorial_analyses[0].confounds == ()
    assert "Confounded, at least in some cells" not in markdown.render_report(compared, ())


def test_effects_are_written_unrounded(compared):
    rows = list(csv.DictReader(io.StringIO(csv_tables.effects_csv(compared))))
    assert [row["effect"] for row in rows] == ["rows", "columns", "interaction"] * 2
    assert (rows[0]["row_to"], rows[0]["column_to"]) == ("residual", "")
    assert float(rows[2]["lower_by"]) == pytest.approx(compared.factorial_analyses[0].effects[2].estimate.value)


def test_the_plot_tells_every_cell_in_words(compared):
    (figure,) = (figure for figure in report_figures(compared) if figure.name == "interaction")
    assert [panel.name for panel in figure.panels] == ["interaction-test-error", "interaction-training-error"]
    told = figure.panels[0].alternative
    assert all(words in told for words in ("plain, shallow 8.", "plain, deep 9.", "residual, deep 7."))


def test_an_interaction_of_arms_that_lost_unequal_numbers_of_seeds_has_no_conclusion():
    states = {("residual deep", seed): "at chance" for seed in (0, 1)}
    (sentence,) = compare_arms(crossed(6, states=states)).factorial_analyses[0].sentences
    assert "over the 4 of 6 seeds that are complete" in sentence
    assert "lost unequal numbers of seeds (0, 0, 0 and 2) that did not train" in sentence
    assert "depends on" not in sentence
    assert "does not show" not in sentence
