"""The examples of docs/reference/python.md run, and give what their comments say."""

import ast
import re
from pathlib import Path

import matplotlib as mpl
import pytest

from reports.comparison.comparison import compare_arms
from reports.pages import notebook
from tests.reports.records import record
from tests.studies.conftest import SHORT

PAGE = Path(__file__).parent.parent.parent / "docs" / "reference" / "python.md"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMENTED = re.compile(r"^(\S.*?)  # (.+)$", re.MULTILINE)


def literal_of(comment):
    """The value that a comment gives, before any words after a colon; ``None`` where it is no value."""
    for text in (comment, comment.partition(":")[0]):
        try:
            return ast.literal_eval(text)
        except (SyntaxError, ValueError):
            continue
    return None


@pytest.mark.slow
def test_every_example_of_the_python_page_runs_and_gives_what_it_says(copied, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "work"  # beside the copied study
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("ABLATE_RUNS", str(copied.runs))
    monkeypatch.setitem(mpl.rcParams, "figure.max_open_warning", 0)
    # The recorded networks are too thin to learn in two epochs; figures of errors need a study that has finished.
    finished = record()
    monkeypatch.setattr(notebook, "load", lambda _: notebook.Report(finished, compare_arms(finished)))
    names, num_checked = {"SHORT": SHORT}, 0
    for block in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        # The page has the networks at their full width; those of the recorded study are thin.
        code = block.replace('overrides={"recipe.epochs": 2}', "overrides=SHORT")
        exec(code, names)
        for expression, comment in COMMENTED.findall(code):
            expected = literal_of(comment)
            if expected is not None:
                assert eval(expression, names) == expected, expression
                num_checked += 1
    assert num_checked >= 7
    assert "Did you mean 'depth'?" in capsys.readouterr().out
    assert {path.name for path in folder.iterdir()} == {"my-report", "seeds.pdf"}
