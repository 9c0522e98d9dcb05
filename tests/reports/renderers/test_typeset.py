"""The LaTeX of a report, typeset: outline fonts, words that a search finds, tables in their sections."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace

import pytest

from ablations import Helps
from reports.comparison.comparison import compare_arms
from reports.content.report import claims_table
from reports.pages.study import report_files
from reports.renderers import latex
from tests.reports.records import HOSTILE, record

TOOLS = ("pdflatex", "pdffonts", "pdftotext")
MISSING = [tool for tool in TOOLS if shutil.which(tool) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        bool(MISSING), reason=f"not installed: {', '.join(MISSING)} (texlive-latex-recommended, lmodern)"
    ),
]


def run_tool(folder, *command):
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:]
    return done.stdout


def typeset(folder, name):
    """Typeset twice, as labels need; returns the fonts' lines and the text."""
    for _ in range(2):
        log = run_tool(folder, "pdflatex", "-interaction=nonstopmode", "-halt-on-error", f"{name}.tex")
    assert "multiply defined" not in log
    assert "undefined references" not in log
    fonts = run_tool(folder, "pdffonts", f"{name}.pdf").splitlines()[2:]
    return fonts, run_tool(folder, "pdftotext", f"{name}.pdf", "-")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("typeset")
    for name, data in report_files(compare_arms(record(states={("B", 3): "non-finite"}))).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def test_the_report_has_outline_fonts_searchable_words_and_tables_in_their_sections(folder):
    fonts, text = typeset(folder, "report")
    assert not [line for line in fonts if "Type 3" in line]
    assert all(line.split()[-5] == "yes" for line in fonts)  # embedded
    assert "finished" in text  # with its ligature
    source = (folder / "report.tex").read_text()
    captions = re.findall(r"\\section\*\{(.*?)\}|\\caption\{(.*?)[.}]", source)
    words = re.sub(r"\s+", " ", text)
    last = -1
    for section, caption in captions[1:]:
        plain = re.sub(r"\\[a-z]+\{\}|[{}$]|\\", "", section or f": {caption}")
        place = words.find(plain[:30], last + 1)
        assert place > last, plain
        last = place


def test_the_table_needs_the_packages_that_it_names_and_no_other(folder):
    table = (folder / "arms.tex").read_text()
    packages = re.findall(r"\\usepackage(?:\[\w+\])?\{\w+\}", table.partition(r"\begin{table}")[0])
    label = re.search(r"\\label\{(.*?)\}", table)[1]
    (folder / "paper.tex").write_text(
        "\\documentclass{article}\n" + "\n".join(packages) + f"\\begin{{document}}\nSee Table~\\ref{{{label}}}.\n"
        "\\input{arms.tex}\n\\end{document}\n"
    )  # fmt: skip
    fonts, text = typeset(folder, "paper")
    assert not [line for line in fonts if "Type 3" in line]
    assert "See Table 1." in text


def test_hostile_names_are_typeset(tmp_path):
    for name, data in report_files(compare_arms(record(arms=HOSTILE, seeds=2))).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    _, text = typeset(tmp_path, "report")
    assert "alert" in text


def test_no_table_is_longer_than_its_page(tmp_path):
    arms = tuple(f"arm {number} of a study with many claims" for number in range(16))
    claims = tuple(Helps(arm=arm, over=arms[0]) for arm in arms[1:])
    study = record(arms=arms, seeds=3)
    comparison = compare_arms(replace(study, registration=replace(study.registration, claims=claims)))
    (tmp_path / "claims.tex").write_text(latex.render_article(latex.render_pages(claims_table(comparison))))
    log = run_tool(tmp_path, "pdflatex", "-interaction=nonstopmode", "-halt-on-error", "claims.tex")
    assert "Float too large" not in log
