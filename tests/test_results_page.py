"""The sentences of docs/results/README.md come from verdicts."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from reports.comparison.comparison import compare_arms
from tests.reports.records import record

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def results():
    spec = importlib.util.spec_from_file_location("docs_results", ROOT / "docs" / "results.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_lines_between_the_markers_are_the_verdicts(results):
    comparison = compare_arms(record())
    page = "Before.\n<!-- verdicts: depth-digits -->\n- **Supported**: old.\n<!-- end: depth-digits -->\nAfter.\n"
    written = results.replace_verdicts(page, "depth-digits", comparison)
    assert written.startswith("Before.\n<!-- verdicts: depth-digits -->\n- **")
    assert written.endswith("<!-- end: depth-digits -->\nAfter.\n")
    assert "**Supported**: old." not in written
    for claim in comparison.claims:
        assert f"**{claim.word.capitalize()}**: {claim.sentence}" in written
    assert results.replace_verdicts(written, "depth-digits", comparison) == written


def test_a_page_without_the_markers_is_refused(results):
    with pytest.raises(ValueError, match="no section for depth-digits"):
        results.replace_verdicts("", "depth-digits", compare_arms(record()))


def test_every_committed_study_has_its_markers():
    page = (ROOT / "docs" / "results" / "README.md").read_text(encoding="utf-8")
    for report in (ROOT / "docs" / "results").glob("*-*.md"):
        assert f"<!-- verdicts: {report.stem} -->" in page
