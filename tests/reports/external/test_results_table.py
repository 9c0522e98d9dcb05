"""Tables of results from elsewhere: what is read, told and refused."""

import math
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from reports.external.results_columns import Columns, ResultsError
from reports.external.results_file import read_results
from reports.external.results_table import tabulate_results


def frame(arms="AB", seeds=3, **columns):
    rows = [
        {"arm": arm, "seed": seed, "accuracy": 90.123 + seed + 0.5 * (arm == "B")}
        for seed in range(seeds)
        for arm in arms
    ]
    return pd.DataFrame(rows).assign(**columns)


def changed(row, **cells):
    table = frame().astype(object)
    for name, value in cells.items():
        table.loc[row, name] = value
    return table


def cautions(table, **options):
    return " ".join(tabulate_results(table, **options).cautions)


def test_results_are_tabulated_as_arms_by_seeds_whatever_their_order():
    table = tabulate_results(frame(seeds=12).sample(frac=1, random_state=0), baseline="B")
    assert table.arms == ("B", "A")
    assert table.seeds == tuple(map(str, range(12)))  # as numbers: 10 after 9
    assert table.values[1].tolist() == pytest.approx([90.123 + seed for seed in range(12)])
    assert table.metric.name == "accuracy"
    assert table.metric.higher_is_better


def test_the_callers_frame_stays_as_it_is():
    given = frame().rename(columns={"accuracy": 7})
    tabulate_results(given, Columns(metric="7"), higher_is_better=True)
    assert list(given.columns) == ["arm", "seed", 7]


def test_columns_are_found_by_usual_names_or_as_given():
    renamed = frame().rename(columns={"arm": "Model", "seed": "replicate"}).assign(epoch=30, note="x")
    with pytest.raises(ResultsError, match="Name the column of the metric with --metric: found accuracy, epoch"):
        tabulate_results(renamed)
    table = tabulate_results(renamed, Columns(metric="accuracy"))
    assert table.arms == ("A", "B")
    with pytest.raises(ResultsError, match="no column 'f1' for the metric; the columns are Model"):
        tabulate_results(renamed, Columns(metric="f1"))
    with pytest.raises(ResultsError, match="No column bears a usual name for the seed"):
        tabulate_results(frame().drop(columns="seed"))


@pytest.mark.parametrize(
    ("name", "options", "is_higher_better"),
    [
        ("test_error", {}, False),
        ("valLoss", {}, False),
        ("val/mIoU", {}, True),
        ("top1_error", {}, False),
        ("q", {"higher_is_better": True}, True),
        ("loss", {"higher_is_better": True}, True),
    ],
)
def test_the_direction_is_that_of_the_name_or_as_asked(name, options, is_higher_better):
    table = tabulate_results(frame().rename(columns={"accuracy": name}), **options)
    assert table.metric.higher_is_better == is_higher_better


def test_a_direction_that_no_name_tells_must_be_given():
    with pytest.raises(ResultsError, match="give --higher-is-better or --lower-is-better"):
        tabulate_results(frame().rename(columns={"accuracy": "q"}))
    asked = tabulate_results(frame().rename(columns={"accuracy": "loss"}), higher_is_better=True)
    assert "although its name says otherwise" in " ".join(asked.cautions)


@pytest.mark.parametrize(
    ("table", "told"),
    [
        (changed(0, accuracy=math.nan), "A has no finite value for 1 seed (0): taken as runs that did not train"),
        (changed(3, accuracy=math.inf), "B has no finite value for 1 seed (1)"),
        (frame().drop(index=5), "B has no row for 1 seed: 2."),
        (
            frame(accuracy=["91,2", "92,1", "90,0", "93,5", "91,1", "92,2"]),
            "Commas in accuracy were read as decimal points",
        ),
        (pd.concat([frame(), frame().head(1)]), "1 row repeated another and was left out"),
        (frame(accuracy=[91.5, 92.1, 91.5, 93.2, 91.5, 92.9]), "A has the same value under all its 3 seeds"),
        (frame(accuracy=[91.5, 91.5, 92.5, 92.5, 93.5, 93.5]), "A and B have equal values under every common seed"),
        (frame(accuracy=[0.5, 91, 0.6, 92, 0.7, 93]), "are fractions and percentages mixed?"),
        (frame(accuracy=[91.1, 91.2, 91.0, 91.2, 91.1, 91.3]), "The values are rounded to 0.1"),
        (frame().rename(columns={"accuracy": "best_accuracy"}), "flatters arms that vary more"),
        (frame().rename(columns={"accuracy": "accuracy_ema"}), "hides the noise of a single step"),
        (frame().rename(columns={"seed": "fold"}), "Folds share training data"),
    ],
)
def test_what_a_reader_must_know_of_the_data_is_told(table, told):
    assert told in cautions(table)


@pytest.mark.parametrize(
    ("table", "refused"),
    [
        (changed(2, accuracy="crashed"), "accuracy is 'crashed' in row 3; expected a number"),
        (changed(2, accuracy="1,234.5"), "accuracy is '1,234.5' in row 3"),
        (changed(2, accuracy=True), "accuracy is True in row 3"),
        (changed(2, accuracy="91%"), "a percent sign in 1 of 6 rows"),
        (changed(2, arm=None), "The column 'arm' is empty in row 3"),
        (pd.concat([frame(), frame(accuracy=1.0).head(1)]), "Several values for A with seed 0"),
        (frame(arms="A"), "There is only one arm, 'A'"),
        (frame(seed=range(6)), "No seed has values of two arms"),
        (frame(accuracy=math.nan), "No row has a finite value"),
        (frame(std=0.3), "The columns std tell of averages over seeds"),
        (frame(n=5), "The columns n tell of averages over seeds"),
        (frame().head(0), "has no rows"),
        (frame(arms=[f"arm {index}" for index in range(101)]), "There are 101 arms; expected at most 100"),
        (frame().set_axis(["arm", "seed", "seed"], axis=1), "The column 'seed' is there twice"),
    ],
)
def test_what_cannot_be_judged_is_refused_in_one_line(table, refused):
    with pytest.raises(ResultsError, match=refused.replace("(", r"\(")) as caught:
        tabulate_results(table, Columns(metric="") if "std" in table or "n" in table else None)
    assert "\n" not in str(caught.value)


def test_the_unit_bounds_the_values():
    assert tabulate_results(frame(), unit="percent").largest_difference == 100
    with pytest.raises(ResultsError, match=r"The unit is fraction, but a value is 92\.6"):
        tabulate_results(frame(), unit="fraction")


@pytest.mark.parametrize(
    "table",
    [frame().rename(columns={"accuracy": "accuracy (%)"}), frame(accuracy=[f"{90 + row}.5%" for row in range(6)])],
)
def test_a_percent_sign_in_the_name_or_in_the_cells_is_the_unit(table):
    tabulated = tabulate_results(table)
    assert (tabulated.unit, tabulated.difference_unit) == ("percent", "points")
    assert any("Taken as percentages" in caution for caution in tabulated.cautions)
    assert tabulate_results(frame()).unit == ""


def test_a_change_in_percent_may_be_larger_than_a_hundred():
    table = tabulate_results(
        frame(accuracy=[150, -3, 20, 30, 40, 50]).rename(columns={"accuracy": "accuracy change, %"})
    )
    assert table.unit == ""


def test_ten_thousand_rows_with_names_of_all_kinds():
    arms = ["sehr breit ä", "<b>bold</b>", "=1+1", "深い"]
    table = tabulate_results(frame(arms=arms, seeds=2500))
    assert table.values.shape == (4, 2500)
    assert table.arms == tuple(arms)


# -- files -------------------------------------------------------------------------------------------------------------


def assert_equal_table(found, expected):
    assert np.array_equal(tabulate_results(found).values, tabulate_results(expected).values)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet", "jsonl", "json"])
def test_every_format_gives_the_same_table(tmp_path, suffix):
    file, table = tmp_path / f"results.{suffix}", frame()
    write = {
        "csv": lambda: table.to_csv(file, index=False),
        "tsv": lambda: table.to_csv(file, index=False, sep="\t"),
        "parquet": lambda: table.to_parquet(file),
        "jsonl": lambda: table.to_json(file, orient="records", lines=True),
        "json": lambda: table.to_json(file, orient="records"),
    }
    write[suffix]()
    assert_equal_table(read_results(str(file)), table)


def test_a_spreadsheet_of_a_country_with_decimal_commas(tmp_path):
    file = tmp_path / "results.csv"
    lines = [f"{row.arm};{row.seed};{row.accuracy:.3f}".replace(".", ",") for row in frame().itertuples()]
    file.write_text("\ufeffarm;seed;accuracy\n" + "\n".join(lines), encoding="utf-8")
    assert_equal_table(read_results(str(file)), frame())


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_the_unicode_text_of_a_spreadsheet_is_read(tmp_path, encoding):
    file = tmp_path / "results.csv"
    mark = "" if encoding == "utf-16" else "\ufeff"
    file.write_bytes((mark + frame().to_csv(index=False, sep="\t")).encode(encoding))
    assert_equal_table(read_results(str(file)), frame())


@pytest.mark.parametrize("separator", [";", ",", "\t"])
def test_a_line_that_tells_a_spreadsheet_the_separator_is_no_header(tmp_path, separator):
    file = tmp_path / "results.csv"
    table = frame().to_csv(index=False, sep=separator)
    for line in (f"sep={separator}\r\n", f'"sep={separator}"\n', f"SEP={separator}\r"):
        file.write_text(line + table, encoding="utf-8", newline="")
        assert_equal_table(read_results(str(file)), frame())


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_lines_may_end_in_any_way(tmp_path, line_end):
    file = tmp_path / "results.csv"
    file.write_bytes(frame().to_csv(index=False).replace("\n", line_end).encode())
    assert_equal_table(read_results(str(file)), frame())


@pytest.mark.parametrize(
    "table",
    [
        pd.DataFrame({"arm": ["A", "B"], "s0": [90.1, 91.0], "s1": [90.2, 91.3]}),
        pd.DataFrame({"seed": [0, 1], "A": [90.1, 91.0], "B": [90.2, 91.3]}),
    ],
)
def test_a_table_with_a_column_per_seed_or_arm_is_told_how_to_become_one_with_rows(table):
    with pytest.raises(ResultsError, match=r"one arm or one seed each, first write a row per arm and seed: pandas\."):
        tabulate_results(table)


def test_a_long_table_without_seeds_is_not_taken_for_a_wide_one():
    with pytest.raises(ResultsError, match=r"for the seed .* The columns are arm, acc, epochs\.$"):
        tabulate_results(pd.DataFrame({"arm": ["A", "B"], "acc": [90.1, 91.0], "epochs": [10, 20]}))


def test_an_arm_may_be_named_none(tmp_path):
    file = tmp_path / "results.csv"
    file.write_text("arm,seed,acc\nNone,0,1.5\nNA,0,2.5\nNone,1,1.7\nNA,1,2.4\n", encoding="utf-8")
    assert tabulate_results(read_results(str(file))).arms == ("None", "NA")


@pytest.mark.parametrize(
    ("name", "content", "refused"),
    [
        ("absent.csv", None, "is not there; expected a file of results, or mlflow:EXPERIMENT"),
        ("empty.csv", b"", "cannot be read as .csv"),
        ("header.csv", b"arm,seed,acc\n", "has no rows"),
        ("image.csv", bytes(range(256)), "cannot be read as .csv"),
        ("broken.parquet", b"PAR1", "cannot be read as .parquet"),
        ("broken.jsonl", b"{", "cannot be read as .jsonl"),
        ("sheet.xlsx", b"PK", "it is a spreadsheet; save the sheet as CSV UTF-8"),
        ("latin.csv", b"arm,seed,acc\nbel\xe9,0,1\n", "byte 17 is no UTF-8; save it as CSV UTF-8"),
        ("cut.csv", "\ufeffarm,seed,acc\n".encode("utf-16-le")[:-1], "is no UTF-16; save it as CSV UTF-8"),
        ("unmarked.csv", "arm,seed,acc\nA,0,1\n".encode("utf-16-le"), "in an encoding other than UTF-8; save it"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_in_one_line(tmp_path, name, content, refused):
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ResultsError, match=refused) as caught:
        read_results(str(file))
    assert "\n" not in str(caught.value)


def test_single_precision_exported_with_all_its_digits_is_seen_as_rounded():
    values = np.float64(np.float32([[0.91, 0.93, 0.92], [0.92, 0.94, 0.93]]))
    rows = [(arm, seed, value) for arm, row in zip("AB", values, strict=True) for seed, value in enumerate(row)]
    table = tabulate_results(pd.DataFrame(rows, columns=["arm", "seed", "accuracy"]))
    assert table.resolution == 0.01


@pytest.mark.parametrize(
    ("header", "metric"), [("acc, top1", "acc, top1"), ("acc (%), mean, top1", "acc (%), mean, top1")]
)
def test_a_comma_in_a_header_is_no_delimiter_where_semicolons_are(tmp_path, header, metric):
    source = write_csv(tmp_path, f"arm;seed;{header}\nA;0;91,5\nB;0;92,5\nA;1;91,25\nB;1;92,75")
    assert tabulate_results(read_results(source)).metric.name == header


@pytest.mark.parametrize("header", ['"error; in percent; mean; of five"', "error (a;b;c;d)"])
def test_semicolons_in_a_header_are_no_delimiters_where_commas_are(tmp_path, header):
    source = write_csv(tmp_path, f"arm,seed,{header}\nA,0,8.5\nB,0,7.5\nA,1,8.25\nB,1,7.75")
    assert list(read_results(source).columns) == ["arm", "seed", header.strip('"')]


def test_empty_cells_after_the_last_column_do_not_change_the_delimiter(tmp_path):
    source = write_csv(tmp_path, "arm;seed;acc, top1\nA;0;91,5;\nB;0;92,5;\n;;;\nA;1;91,25;\nB;1;92,75;")
    assert list(read_results(source).columns) == ["arm", "seed", "acc, top1"]


def test_a_table_with_rows_of_unequal_lengths_is_cut_by_the_delimiter_of_its_header(tmp_path):
    source = write_csv(tmp_path, "arm;seed;acc;note\nA;0;91,5\nB;0;92,5;\nA;1;91,25\nB;1;92,75;x")
    assert read_results(source)["note"].tolist() == [None, None, None, "x"]


def test_decimals_as_databases_give_them_are_numbers():
    table = tabulate_results(frame(accuracy=[Decimal(value) for value in ("91.5", "92", "91", "93", "90", "94")]))
    assert table.values[0].tolist() == [91.5, 91.0, 90.0]


@pytest.mark.parametrize("values", [(1e8 + 0.25, 1e8 + 0.4), (2e-46, 3e-46), (1e13 + 0.25, 1e13 + 0.75)])
def test_values_that_single_precision_cannot_tell_apart_are_not_taken_as_rounded(values):
    rows = [(arm, seed, value * (1 + seed)) for arm, value in zip("AB", values, strict=True) for seed in (0, 1, 2)]
    assert tabulate_results(pd.DataFrame(rows, columns=["arm", "seed", "loss"])).resolution < 0.1


def test_huge_whole_numbers_are_tabulated_without_a_warning():
    rows = [(arm, seed, value * 1e140) for arm, value in (("A", 1), ("B", 2)) for seed in (0, 1)]
    assert tabulate_results(pd.DataFrame(rows, columns=["arm", "seed", "loss"])).seeds == ("0", "1")


def write_csv(folder, text):
    file = folder / "results.csv"
    file.write_text("\n".join(line.strip() for line in text.strip().splitlines()) + "\n", encoding="utf-8")
    return str(file)


def test_an_arm_named_like_a_number_keeps_its_name(tmp_path):
    source = write_csv(tmp_path, "model,seed,accuracy\n1.1,0,91\n1.10,0,95\n1e-3,0,92\n1.1,1,91\n1.10,1,95\n1e-3,1,93")
    assert tabulate_results(read_results(source)).arms == ("1.1", "1.10", "1e-3")


@pytest.mark.parametrize("cells", ['987|"1,012"', '"2,987"|"1,012"'])
def test_commas_that_may_separate_thousands_are_refused(tmp_path, cells):
    first, second = cells.split("|")
    source = write_csv(tmp_path, f"arm,seed,latency\nA,0,{first}\nB,0,{second}\nA,1,{first}\nB,1,{second}")
    with pytest.raises(ResultsError, match=r"latency is '[12],\d+' in a row: \d{4} or \d\.\d{3}\? Write it without"):
        tabulate_results(read_results(source))


def test_a_decimal_comma_with_three_digits_is_read_where_a_semicolon_separates(tmp_path):
    source = write_csv(tmp_path, "arm;seed;accuracy\nA;0;91,234\nB;0;92,345\nA;1;91,222\nB;1;92,333")
    assert tabulate_results(read_results(source)).values[0].tolist() == [91.234, 91.222]


def test_a_row_with_more_cells_than_the_header_is_refused_by_its_number(tmp_path):
    source = write_csv(tmp_path, "arm,seed,accuracy\nA,0,90\nB,0,91,92.5")
    with pytest.raises(ResultsError, match="row 2 has 4 cells, and the header has 3"):
        read_results(source)
    trailing = write_csv(tmp_path, "arm,seed,accuracy\nA,0,90,\nB,0,91,\n\nA,1,90,\nB,1,91,")
    assert tabulate_results(read_results(trailing)).seeds == ("0", "1")


def test_an_empty_column_and_row_numbers_are_no_metric(tmp_path):
    source = write_csv(tmp_path, ",arm,seed,Sweep,accuracy\n0,A,0,,90\n1,B,0,,91\n2,A,1,,90\n3,B,1,,91")
    assert tabulate_results(read_results(source)).metric.name == "accuracy"


def test_tiny_values_are_not_taken_as_rounded_and_huge_ones_are_refused():
    rows = [("A", 0, 1e-13), ("B", 0, 2e-13), ("A", 1, 1.5e-13), ("B", 1, 3e-13)]
    assert tabulate_results(pd.DataFrame(rows, columns=["arm", "seed", "loss"])).resolution == 0
    huge = pd.DataFrame([("A", 0, 1e308), ("B", 0, 1e307)], columns=["arm", "seed", "loss"])
    with pytest.raises(ResultsError, match=r"expected at most 1e\+150"):
        tabulate_results(huge)
