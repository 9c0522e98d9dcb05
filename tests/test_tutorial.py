"""The tutorial notebook: small, executed in order, without a trace of a machine; and it runs."""

import importlib.util
import re
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="the notebook's tools are not installed")
pytest.importorskip("nbclient", reason="the notebook's tools are not installed")

DOCS = Path(__file__).parent.parent / "docs"
TUTORIAL = DOCS / "tutorial.ipynb"
MAX_BYTES = 300_000


@pytest.fixture(scope="module")
def notebook():
    return nbformat.read(TUTORIAL, as_version=4)


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("tutorial_of_the_docs", DOCS / "tutorial.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def kinds_of_output(notebook):
    return [{output.output_type for output in cell.outputs} for cell in code_cells(notebook)]


def test_the_tutorial_is_small_and_executed_from_top_to_bottom(notebook):
    assert TUTORIAL.stat().st_size < MAX_BYTES
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert all(cell.outputs for cell in cells)


def test_the_tutorial_shows_no_escape_sequence_warning_or_path_of_a_machine():
    text = TUTORIAL.read_text(encoding="utf-8")
    assert not re.search(r"\\u001b|Warning|/tmp/|/root/|/home/|site-packages", text)


def test_links_of_the_tutorial_lead_to_files_that_exist(notebook):
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    assert len(links) >= 3
    assert [link for link in links if not (DOCS / link).exists()] == []


def test_errors_of_the_tutorial_are_one_line(notebook, script):
    errors = list(script.errors_in(notebook))
    assert len(errors) == 2
    assert not any("\n" in error for error in errors)


@pytest.mark.slow
def test_the_tutorial_runs_and_shows_what_it_shows_today(notebook, script, tmp_path):
    executed = script.execute(nbformat.read(TUTORIAL, as_version=4), tmp_path)
    assert kinds_of_output(executed) == kinds_of_output(notebook)
    assert {path.name for path in tmp_path.iterdir()} == {"runs", "my-report", "differences.pdf"}
    script.normalize(executed, tmp_path)
    assert str(tmp_path) not in nbformat.writes(executed)
    (progress,) = [cell for cell in code_cells(executed) if "studies.run(" in cell.source]
    assert "9 of 9 trials, 54 of 54 epochs" in str(progress.outputs)
