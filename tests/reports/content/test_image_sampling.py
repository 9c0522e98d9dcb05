"""The table of intervals over seeds and images: only where it tells something. Made-up numbers."""

from dataclasses import replace

from reports.comparison.comparison import compare_arms
from reports.content.report import report_sections
from tests.reports.records import record


def limits(comparison):
    """The section on what the seeds could show."""
    (section,) = [section for section in report_sections(comparison, ()) if section.name == "limits"]
    return section


def test_an_interval_that_images_do_not_widen_is_not_printed_twice():
    compared = compare_arms(record())
    first, *others = compared.differences
    unwidened = replace(first, seed_image_interval=first.estimate)
    (table,) = limits(replace(compared, differences=(unwidened, *others))).tables
    cells = [row[2].text for row in table.rows]
    assert cells[0] == "as over seeds"
    assert all(text.endswith("]") for text in cells[1:])
    assert "difference's own 95% interval, which is not simultaneous" in table.notes[0]


def test_where_images_widen_nothing_a_sentence_takes_the_place_of_the_table():
    compared = compare_arms(record())
    differences = tuple(replace(each, seed_image_interval=each.estimate) for each in compared.differences)
    section = limits(replace(compared, differences=differences))
    assert section.tables == ()
    assert section.points[-1].startswith("The test images as a second source of variance widen none")


def test_without_predictions_nothing_is_said_of_images():
    section = limits(compare_arms(replace(record(), labels=None)))
    assert section.tables == ()
    assert not any("second source" in point for point in section.points)
