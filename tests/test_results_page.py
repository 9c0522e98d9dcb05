"""The index of the results, docs/results/README.md, is made of the pages' heads, which hold verdicts."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from reports.comparison.comparison import compare_arms
from reports.renderers import markdown
from tests.reports.records import record

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def results():
    spec = importlib.util.spec_from_file_location("docs_results", ROOT / "docs" / "results.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_the_index_says_of_each_claim_what_its_verdict_says(results):
    comparison = results.published(compare_arms(record(states={("B", 1): "failed"})))
    head = results.read_head(markdown.render_report(comparison, ()))
    assert (head.study, head.protocol) == ("depth", "digits")
    others = {
        "other": "# Another page\n\nIts text.\n",
        "calibration": "# A calibration\n\n**Of 10 studies, 1 is wrong.**\n",
    }
    index = results.results_index({"depth-digits": markdown.render_report(comparison, ()), **others})
    assert comparison.claims
    assert comparison.cautions
    for caution in comparison.cautions:
        assert f"- Caution: {markdown.escape_text(caution)}" in index
    for claim in comparison.claims:
        assert f"- **{claim.word.capitalize()}**: {markdown.escape_text(claim.sentence)}" in index
    assert f"### [depth](depth-digits.md): {markdown.escape_text(comparison.registration.question)}" in index
    assert "- [Another page](other.md)\n" in index
    assert "- [A calibration](calibration.md): Of 10 studies, 1 is wrong.\n" in index


@pytest.mark.parametrize("label", ["Overridden in every arm:", "Set for every arm alike:"])  # of today, and of before
def test_the_index_repeats_in_what_a_study_departs_from_its_protocol(results, label):
    comparison = compare_arms(record())
    registration = replace(comparison.registration, overrides={"recipe.epochs": "14"})
    page = markdown.render_report(replace(comparison, registration=registration), ())
    page = page.replace("Overridden in every arm:", label)
    assert f"; {label} recipe.epochs = 14." in results.results_index({"depth-digits": page})


def test_a_bar_in_a_cell_is_no_end_of_the_cell(results):
    assert results._split_row(r"| a \| b | c |  |") == (r"a \| b", "c", "")


def test_the_committed_index_is_made_of_the_committed_pages(results):
    pages = {page.stem: page.read_text(encoding="utf-8") for page in results.RESULTS.glob("*.md")}
    index = pages.pop("README")
    assert results.results_index(pages) == index
