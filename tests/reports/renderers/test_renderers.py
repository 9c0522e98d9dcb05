"""Markdown, LaTeX, CSV and the folder of a report. Made-up numbers."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from reports.comparison.comparison import compare_arms
from reports.document import Column, Table, text_cell
from reports.pages.study import replace_folder, report_files, write_report
from reports.pages.summary import arms_table, summary_files, write_summary
from reports.renderers import csv as csv_tables
from reports.renderers import latex, markdown
from tests.reports.records import HOSTILE, record

TROUBLED = {("B", 3): "non-finite", ("D", 1): "failed", ("E", 2): "running"}


SMALL = record(arms=("A", "B"), seeds=2, states={("B", 1): "non-finite"})


@pytest.fixture(scope="module")
def small() -> dict[str, bytes]:
    return report_files(compare_arms(SMALL))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the small report, written where another one was."""
    folder = tmp_path_factory.mktemp("reports") / "depth"
    folder.mkdir()
    (folder / "stale.html").write_text("old")
    assert write_report(compare_arms(SMALL), folder) == folder / "index.html"
    return folder


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_markdown_has_the_sections_and_a_table_of_arms():
    text = markdown.render_report(compare_arms(record()), ())
    assert text.startswith("# Does the error of a VGG network fall as it grows from 11 to 19 weight layers?\n")
    assert "| A | 9.27 ± 0.39 | baseline | 5 of 5 | 29.6 |" in text
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## Results by arm", "## What changed, and what was held", "## Errors by class",
        "## Sensitivity: what these seeds could detect", "## Failures", "## Reproducibility",
        "## To cite, and to paste into a paper",
    ]  # fmt: skip


def test_markdown_tables_keep_their_columns_under_hostile_names():
    text = markdown.render_report(compare_arms(record(arms=HOSTILE, seeds=2)), ())
    assert "<script>" not in text
    for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("a_b*c", r"a\_b\*c"),
        ("<b>", r"\<b\>"),
        ("a|b", r"a\|b"),
        ("1. first", r"1\. first"),
        ("10) tenth", r"10\) tenth"),
        ("1.5 points", "1.5 points"),
        ("two\nlines", "two lines"),
        ("9.27", "9.27"),
    ],
)
def test_markdown_is_escaped(given, expected):
    assert markdown.escape_text(given) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("50% & $x_1$ #2", r"50\% \& \$x\_1\$ \#2"),
        ("a\\b{c}", r"a\textbackslash{}b\{c\}"),
        ("~^<>", r"\textasciitilde{}\textasciicircum{}\textless{}\textgreater{}"),
        ("−0.5 ± 1 → ε", r"$-$0.5 $\pm$ 1 $\to$ $\varepsilon$"),
        ("Zürich", "Zürich"),
        ("漢", r"\texttt{U+6F22}"),
        ("λ=0.1 †", r"$\lambda$=0.1 \textdagger{}"),
        ("*best", "{*}best"),
        ("ħ", r"\texttt{U+0127}"),
        ("ﬁne", "fine"),
        ("a\x07b\nc", "a b c"),
        ("--", "{-}{-}"),
    ],
)
def test_latex_is_escaped(given, expected):
    assert latex.escape_text(given) == expected


def test_latex_is_a_whole_article_whose_environments_close():
    text = latex.render_report(compare_arms(record(arms=HOSTILE, seeds=2, states=TROUBLED)), ())
    stack = []
    for what, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        if what == "begin":
            stack.append(name)
        else:
            assert stack.pop() == name
    assert stack == []
    assert text.startswith("\\documentclass{article}")
    assert "\\toprule" in text


def test_latex_rows_have_as_many_cells_as_columns():
    text = latex.render_report(compare_arms(record(arms=HOSTILE, seeds=2)), ())
    for columns, body in re.findall(r"\{@\{\}(\w+)@\{\}\}\n(.*?)\\bottomrule", text, flags=re.DOTALL):
        lines = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert lines
        assert {len(re.findall(r"(?<!\\)&", line)) + 1 for line in lines} == {len(columns)}


def test_a_latex_table_that_is_longer_than_a_page_goes_on_under_another_heading():
    held = {f"recipe.setting_{number}": number for number in range(50)}
    text = latex.render_report(compare_arms(record(held=held)), ())
    assert text.count(r"\caption{Settings held constant in every arm}") == 1
    assert text.count(r"\caption{Settings held constant in every arm, continued}") == 1
    assert all(f"setting\\_{number} " in text for number in range(50))


def test_the_results_table_stands_alone_for_a_paper():
    text = latex.render_results_table(compare_arms(record()))
    needed, fonts, start, *_ = text.splitlines()
    assert needed == r"% Needs \usepackage{booktabs}"
    assert fonts.endswith(r"refer to it by \ref{tab:depth-digits-results}.")
    assert start == r"\begin{table}[htbp]"
    assert r"\label{tab:depth-digits-results}" in text
    assert r"B & 8.11 $\pm$ 0.38 & $+$1.16 {[}0.68, 1.64{]} & 5 of 5 & 28.7 \\" in text


def test_latex_numbers_of_a_column_are_as_wide_as_the_widest():
    assert latex._align_numbers(["9.2 ± 0.4", "10.1 ± 0.4"], ["", ""]) == [
        r"\phantom{0}9.2 $\pm$ 0.4",
        r"10.1 $\pm$ 0.4",
    ]
    assert latex._align_numbers(["+1.2 [−0.1, 2.5]", "+2.0 [0.3, 3.7]", "baseline"], ["", "°", ""]) == [
        r"$+$1.2 {[}$-$0.1, 2.5{]}",
        r"$+$2.0 {[}\phantom{$-$}0.3, 3.7{]}\rlap{\,$^\circ$}",
        "baseline",
    ]


def test_latex_labels_are_unique():
    study = record(held={f"recipe.setting_{number}": number for number in range(50)})
    labels = re.findall(r"\\label\{(.*?)\}", latex.render_report(compare_arms(study), ()))
    assert {"tab:claims", "tab:results", "tab:held", "tab:held-2"} <= set(labels)
    assert len(labels) == len(set(labels))


def test_csv_gives_numbers_unrounded_and_nothing_where_there_is_none():
    first, second, *_ = rows(csv_tables.arms_csv(compare_arms(record(states=TROUBLED))))
    assert first["arm"] == "A"
    assert first["lower_than_baseline_points"] == ""
    assert float(second["lower_than_baseline_points"]) == pytest.approx(1.12, abs=0.01)
    assert (second["finished"], second["non_finite"]) == ("4", "1")


def test_csv_has_a_row_for_every_started_trial():
    table = rows(csv_tables.trials_csv(compare_arms(record(states={**TROUBLED, ("A", 0): "absent"}))))
    assert len(table) == 19
    states = {(row["arm"], row["seed"]): row["state"] for row in table}
    assert states["B", "3"] == "non-finite"
    assert next(row for row in table if row["state"] == "failed")["error"] == "MemoryError: 12 GiB"
    assert next(row for row in table if row["state"] == "running")["test_error"] == ""


def test_parquet_has_the_rows_of_the_csv_with_their_types():
    study = compare_arms(record(arms=HOSTILE[:2], seeds=2, states={(HOSTILE[0], 1): "running"}))
    frame = pd.read_parquet(io.BytesIO(csv_tables.trials_parquet(study)))
    assert list(frame.columns) == list(rows(csv_tables.trials_csv(study))[0])
    assert list(frame["arm"]) == [HOSTILE[0]] * 2 + [HOSTILE[1]] * 2
    assert list(frame["epochs"].isna()) == [False, True, False, False]
    assert (str(frame["seed"].dtype), str(frame["test_error"].dtype)) == ("int64", "float64")
    assert len(pd.read_parquet(io.BytesIO(csv_tables.trials_parquet(compare_arms(record(trials=())))))) == 0


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1"])
def test_text_that_a_spreadsheet_would_run_is_disarmed(text):
    assert csv_tables.escape_formula(text) == f"'{text}"


def test_numbers_are_no_formulas_even_below_zero():
    study = record()
    table = rows(csv_tables.arms_csv(compare_arms(record(arms=("E", "A"), claims=()))))
    assert table[1]["lower_than_baseline_points"].startswith("-")
    assert study.registration.arms == ("A", "B", "D", "E")


def test_hostile_arm_names_are_disarmed_in_both_tables():
    compared = compare_arms(record(arms=HOSTILE, seeds=2))
    names = [row["arm"] for row in rows(csv_tables.arms_csv(compared))]
    assert names == [HOSTILE[0], f"'{HOSTILE[1]}", f"'{HOSTILE[2]}", HOSTILE[3]]
    assert {row["arm"] for row in rows(csv_tables.trials_csv(compared))} == set(names)


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_folder_holds_everything_and_nothing_of_before(folder):
    names = set(files_of(folder))
    assert {"index.html", "report.md", "report.tex", "arms.tex", "arms.csv", "trials.csv", "trials.parquet"} <= names
    assert {"figures/errors.svg", "figures/errors.pdf"} <= names
    assert "stale.html" not in names
    assert [path.name for path in folder.parent.iterdir()] == ["depth"]


def test_every_picture_that_a_text_names_is_there(small):
    named = re.findall(r"\]\((figures/[^)]*)\)", small["report.md"].decode())
    named += re.findall(r"\]\{(figures/[^}]*)\}", small["report.tex"].decode())
    assert named
    assert set(named) <= set(small)


def test_the_same_record_gives_the_same_bytes(small, folder):
    assert files_of(folder) == small


def test_a_failed_write_leaves_the_old_report(tmp_path):
    folder = tmp_path / "depth"
    replace_folder(folder, {"index.html": b"old"})
    with pytest.raises(TypeError):
        replace_folder(folder, {"index.html": b"new", "broken": None})
    assert (folder / "index.html").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["depth"]


def two_studies():
    """Two studies that share their baseline's trials."""
    first, other = record(), record(arms=("A", "A-LRN"))
    shared = tuple(each for each in first.trials if each.arm == "A")
    second = replace(other, trials=shared + tuple(each for each in other.trials if each.arm != "A"))
    return first, replace(second, registration=replace(second.registration, study="lrn"))


def compare_all(records):
    return tuple(map(compare_arms, records))


def test_a_summary_names_every_claim_of_every_study(tmp_path):
    page = write_summary(compare_all(two_studies()), tmp_path / "summary")
    told = page.read_text()
    assert "5 claims in 2 studies: 4 supported and 1 inconclusive." in told
    assert "http" not in told
    assert len(rows((page.parent / "claims.csv").read_text())) == 5
    assert (
        "| depth (digits) | B improves on A in test error. | ✓ supported |" in (page.parent / "summary.md").read_text()
    )


def test_an_arm_that_serves_two_studies_is_one_row_of_the_summary():
    table = arms_table([compare_arms(study) for study in two_studies()])
    assert [(row[0].text, row[1].text) for row in table.rows] == [
        ("A", "depth (digits), lrn (digits)"),
        ("B", "depth (digits)"),
        ("D", "depth (digits)"),
        ("E", "depth (digits)"),
        ("A-LRN", "lrn (digits)"),
    ]


def test_a_summary_warns_of_studies_trained_by_other_code():
    first, second = two_studies()
    trials = tuple(
        replace(each, result=replace(each.result, digests={**each.result.digests, "code": "0ther"}))
        for each in second.trials
    )
    made = summary_files(compare_all((first, replace(second, trials=trials))))
    assert b"code digests differ from those of depth (digits)" in made["index.html"]


def test_a_summary_links_to_each_page_of_its_own(tmp_path):
    first, second = two_studies()
    pages = [tmp_path / "depth-digits" / "index.html", tmp_path / "lrn digits" / "index.html"]
    folder = write_summary(compare_all((first, second)), tmp_path / "summary", pages).parent
    told = (folder / "index.html").read_text()
    assert told.count('<a href="../depth-digits/index.html">') == 4
    assert '<a href="../lrn%20digits/index.html">lrn, protocol digits</a>' in told
    assert "- [depth (digits), full report](../depth-digits/index.html)" in (folder / "summary.md").read_text()
    assert "<a " not in write_summary(compare_all((first, second)), tmp_path / "alone").read_text()


def test_a_summary_of_nothing_says_so():
    made = summary_files(())
    assert b"No claim was registered." in made["index.html"]


def test_a_summary_is_reproducible():
    assert summary_files(compare_all(two_studies())) == summary_files(compare_all(two_studies()))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("3≠4", r"3$\ne$4"),
        ("3≮4", r"3\texttt{U+226E}4"),  # without its stroke it would say the opposite
        ("⅓", "1/3"),
        ("10⁻⁴", "10$^{-}$$^{4}$"),
        ("x₂", "x$_{2}$"),
        ("ộ", "o"),
    ],
)
def test_latex_never_changes_what_a_character_says(given, expected):
    assert latex.escape_text(given) == expected


def test_a_table_of_sentences_is_split_by_its_lines_not_its_rows():
    """A float that is longer than a page runs off it."""
    columns = (Column(title="Claim"), Column(title="Verdict"))
    rows = tuple((text_cell(f"claim {number}: {'many words ' * 30}"), text_cell("supported")) for number in range(20))
    pages = latex.render_pages(Table(name="claims", caption="Claims", columns=columns, rows=rows, notes=("a note",)))
    assert len(pages) > 2
    assert sum(page.count("claim ") for page in pages) == 20
    assert [page.count("a note") for page in pages] == [0] * (len(pages) - 1) + [1]
    assert "Claims, continued" in pages[1]
    short = tuple((text_cell("A"), text_cell("supported")) for _ in range(36))
    assert len(latex.render_pages(Table(name="claims", caption="Claims", columns=columns, rows=short))) == 1
