"""Figures: there, told in words, reproducible, and safe against hostile names. Made-up numbers."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from reports.comparison.comparison import compare_arms
from reports.figures import style
from reports.figures.seeds import error_decimals
from reports.figures.study import pareto_front, report_figures
from reports.renderers import csv, html
from tests.reports.records import HOSTILE, record

ALL_FIGURES = ["seeds", "learning", "gradients", "confusions", "costs", "receptive", "published"]


@pytest.fixture(scope="module")
def drawn():
    return report_figures(compare_arms(record(states={("B", 3): "non-finite"})))


@pytest.fixture(scope="module")
def panels(drawn):
    return {panel.name: panel for figure in drawn for panel in figure.panels}


def test_the_figures_of_a_full_study_are_all_there(drawn):
    assert [figure.name for figure in drawn] == ALL_FIGURES
    assert [panel.name for panel in drawn[1].panels] == [
        "learning-validation-error", "learning-train-error", "learning-train-loss", "learning-gradient-norm",
    ]  # fmt: skip


def test_gradients_have_a_panel_per_arm_on_one_scale(panels):
    told = [panels[f"gradients-{place}"].alternative for place in (1, 2, 3, 4)]
    assert told[0].startswith("A, 10 layers from stage1.conv1 to head.fc2: first epoch, mean over seeds, from ")
    assert "1 untrained seed dotted" in told[1]
    limits = {panels[f"gradients-{place}"].draw.args[1] for place in (1, 2, 3, 4)}
    assert len(limits) == 1


def test_layer_norms_stay_out_of_the_learning_curves_and_of_the_tables(drawn):
    compared = compare_arms(record())
    assert len(drawn[1].panels) == 4
    assert "gradient_norm/" not in csv.trials_csv(compared)
    assert "gradient_norm/" not in html.render_report(compared, drawn)


def test_a_record_without_layer_norms_has_no_figure_of_them():
    study = record(arms=("A", "B"), seeds=2)
    trials = tuple(
        replace(each, result=replace(each.result, curves={"train_loss": (1.0, 0.5)})) for each in study.trials
    )
    names = [figure.name for figure in report_figures(compare_arms(replace(study, trials=trials)))]
    assert names == ["seeds", "learning", "confusions", "costs", "receptive", "published"]


def test_receptive_fields_are_told_beside_the_side_of_the_image(panels):
    assert panels["receptive-fields"].alternative == (
        "Side of the receptive field in pixels: A 150, 4.7 times the image's side; B 194, 6.1 times the image's side; "
        "D 238, 7.4 times the image's side; E 282, 8.8 times the image's side. The image has a side of 32."
    )


def test_every_panel_tells_its_numbers_in_words(panels):
    assert panels["errors"].alternative.startswith("Test error in percent")
    assert all(re.search(r"[ABDE]\b.*\d", panel.alternative) for panel in panels.values())


def test_files_for_a_paper_are_whole_documents(panels):
    for panel in list(panels.values())[:5]:
        assert ElementTree.fromstring(panel.svg).tag.endswith("svg")
        assert panel.pdf.startswith(b"%PDF")
        assert b"CreationDate" not in panel.pdf


def test_inline_drawings_bring_no_addresses_dates_or_styles_of_their_own(panels):
    for panel in panels.values():
        assert panel.inline.startswith("<svg")
        assert "http" not in panel.inline
        assert "<style" not in panel.inline
        assert "font-family" not in panel.inline


def test_ids_are_unique_over_all_drawings_of_a_page(panels):
    ids = [name for panel in panels.values() for name in re.findall(r'\sid="([^"]*)"', panel.inline)]
    assert len(set(ids)) == len(ids)
    used = {name for panel in panels.values() for name in re.findall(r'(?:url\(#|href="#)([^")]*)', panel.inline)}
    assert used <= set(ids)


def test_every_color_follows_the_page(panels):
    codes = {code for panel in panels.values() for code in re.findall(r"(?<!, )#[0-9a-f]{6}\b", panel.inline)}
    assert codes == set()


def test_the_same_comparison_gives_the_same_bytes():
    study = record(arms=("A", "B"), seeds=2)
    first, second = ([figure.panels[0] for figure in report_figures(compare_arms(study))[:2]] for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert (one.inline, one.svg, one.pdf) == (other.inline, other.svg, other.pdf)


def test_hostile_names_are_drawn_as_they_are():
    for figure in report_figures(compare_arms(record(arms=HOSTILE, seeds=2))):
        for panel in figure.panels:
            assert "<script" not in panel.inline
            ElementTree.fromstring(panel.inline)


def test_a_study_without_trials_draws_only_what_was_built():
    assert [figure.name for figure in report_figures(compare_arms(record(trials=())))] == ["receptive"]
    assert report_figures(compare_arms(record(trials=(), properties={}))) == ()


def test_one_arm_has_no_differences_to_draw():
    (first, *_) = report_figures(compare_arms(record(arms=("A",), seeds=2)))
    assert [panel.name for panel in first.panels] == ["errors"]


def test_one_seed_is_drawn_without_intervals():
    drawn = report_figures(compare_arms(record(arms=("A", "B"), seeds=1)))
    assert [figure.name for figure in drawn] == ALL_FIGURES
    assert all(figure.panels[0].inline for figure in drawn)


def test_the_order_of_asking_does_not_change_a_drawing():
    study = compare_arms(record(arms=("A", "B"), seeds=2))
    first, second = (report_figures(study)[0].panels[0] for _ in range(2))
    assert (first.inline, first.svg) == (second.svg and second.inline, second.svg)


def test_only_arms_that_none_beats_are_on_the_front():
    assert pareto_front([(1, 9), (2, 7), (3, 8), (4, 6), (2, 9)]) == [(1, 9), (2, 7), (4, 6)]


def test_labels_keep_apart_and_in_order():
    placed = style.separate_heights([0.5, 0.51, 0.52], 0.1, 0.0, 1.0)
    assert placed == sorted(placed)
    assert min(second - first for first, second in pairwise(placed)) > 0.099


def test_long_names_are_cut_and_control_characters_removed():
    assert style.shorten_name("a\nb\x00c") == "a b c"
    assert style.shorten_name("x" * 40) == "x" * 15 + "…"


def test_colors_and_markers_differ_between_neighbors():
    assert len({(style.arm_color(index), style.arm_line_style(index)) for index in range(13)}) == 13
    assert len({style.arm_marker(index) for index in range(7)}) == 7


def test_errors_have_at_least_one_decimal():
    assert error_decimals(compare_arms(record(trials=()))) >= 1
