"""The page in a real browser: values under the pointer and the finger, sorting, switches, links. Made-up numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reports.comparison.comparison import compare_arms
from reports.figures.study import report_figures
from reports.formatting import format_contrast
from reports.renderers.html import render_report
from tests.browser import Browser, find_browser
from tests.reports.records import HOSTILE, record, started
from tests.studies.latency.test_measurement import arm_latency, measurement

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_browser() is None, reason="no browser: needs chromium, or CHROMIUM=PROGRAM"),
]
TIP = "(t => t.hidden ? '' : t.innerText)(document.querySelector('.tip'))"
MAX_BYTES = 2_000_000


def write_page(folder, study, name="page.html"):
    compared = compare_arms(study)
    file = folder / name
    file.write_text(render_report(compared, report_figures(compared)), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return write_page(tmp_path_factory.mktemp("page"), record(states={("B", 3): "non-finite", ("E", 2): "running"}))


@pytest.fixture(scope="module")
def browser():
    with Browser() as tab:
        yield tab


def place_of_mark(browser, figure, label, text):
    """Center of a mark in the window; scrolled there."""
    return browser.evaluate(f"""(() => {{
        for (const script of document.querySelectorAll("#figure-{figure} .panel > script")) {{
            const data = JSON.parse(script.textContent);
            const mark = data.marks.find(m => data.labels[m[2]] === {label!r} && m[4].startsWith({text!r}));
            if (!mark) continue;
            const svg = script.parentElement.querySelector("svg");
            svg.scrollIntoView({{block: "center", behavior: "instant"}});
            const box = svg.getBoundingClientRect(), scale = box.width / svg.viewBox.baseVal.width;
            return [box.left + mark[0] * scale, box.top + mark[1] * scale];
        }}
    }})()""")


def point_at(browser, figure, label, text):
    x, y = place_of_mark(browser, figure, label, text)
    browser.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    return browser.evaluate(TIP)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 390])
def test_no_complaint_no_request_and_no_sideways_scrolling(browser, page, width, scheme):
    browser.emulate(prefers_color_scheme=scheme)
    browser.open(page, width=width, is_touch=width == 390)
    assert browser.complaints() == []
    assert browser.requests() == [page.as_uri(), "data:,"] or browser.requests() == [page.as_uri()]
    assert browser.evaluate("document.documentElement.scrollWidth") == width


def test_the_figure_that_decides_is_on_the_first_screen(browser, page):
    browser.open(page, height=900)
    assert browser.evaluate("document.querySelector('#figure-seeds svg').getBoundingClientRect().bottom") < 900


def test_a_seed_shows_its_error_under_the_pointer_and_lights_its_arm(browser, page):
    browser.open(page)
    shown = point_at(browser, "seeds", "D", "seed 2")
    assert shown.startswith("D\nseed 2: ")
    assert shown.endswith("%")
    assert browser.evaluate("document.querySelector('#arm-3').parentElement.className") == "lit"
    assert browser.evaluate("document.querySelectorAll('#figure-seeds .lit').length") > 2
    browser.send("Input.dispatchMouseEvent", type="mouseMoved", x=2, y=2)
    assert browser.evaluate(TIP) == ""
    assert browser.evaluate("document.querySelectorAll('.lit').length") == 0


def test_a_difference_shows_its_interval_on_touch(browser, page):
    browser.open(page, width=390, height=844, is_touch=True)
    x, y = place_of_mark(browser, "seeds", format_contrast("A", "B"), "")
    browser.send("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
    browser.send("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    assert "points" in browser.evaluate(TIP)
    box = browser.evaluate("(r => [r.left, r.right])(document.querySelector('.tip').getBoundingClientRect())")
    assert box[0] >= 0
    assert box[1] <= 390


def test_arrow_keys_step_through_the_values(browser, page):
    browser.open(page)
    browser.evaluate("document.querySelector('#figure-seeds .panel').focus()")
    for _ in range(2):
        browser.send("Input.dispatchKeyEvent", type="keyDown", key="ArrowRight", code="ArrowRight")
    assert browser.evaluate(TIP).startswith("A\nseed 0")


def test_the_arms_table_sorts_by_error_both_ways_and_back(browser, page):
    browser.open(page)
    names = "[...document.querySelectorAll('#table-results tbody th')].map(h => h.firstChild.textContent)"
    assert browser.evaluate(names) == ["A", "B", "D", "E"]
    orders = []
    for _ in range(3):
        browser.click("#table-results th:nth-child(2) button")
        orders.append(browser.evaluate(names))
    assert orders == [["D", "E", "B", "A"], ["A", "B", "E", "D"], ["A", "B", "D", "E"]]


def test_an_arm_of_the_curves_can_be_switched_off_and_on(browser, page):
    browser.open(page)
    shown = (
        "[...document.querySelectorAll('#figure-learning [data-arm]')]"
        ".filter(part => getComputedStyle(part).display !== 'none').map(part => part.dataset.arm)"
    )
    assert set(browser.evaluate(shown)) == {"0", "1", "2", "3"}
    browser.click("#figure-learning .switches button:nth-child(2)")
    assert set(browser.evaluate(shown)) == {"0", "2", "3"}
    assert browser.evaluate("document.querySelector('.switches button:nth-child(2)').ariaPressed") == "false"
    assert "B\n" not in point_at(browser, "learning", "B", "epoch 1:")
    browser.click("#figure-learning .switches button:nth-child(2)")
    assert point_at(browser, "learning", "B", "epoch 1:")
    assert set(browser.evaluate(shown)) == {"0", "1", "2", "3"}


def test_of_forty_arms_each_curve_is_named_under_the_pointer_and_a_dozen_can_be_left_alone(browser, tmp_path):
    arms = tuple(f"arm {index}" for index in range(40))
    study = record(arms=arms, seeds=3)
    study = replace(study, registration=replace(study.registration, claims=study.registration.claims[1:2]))
    browser.open(write_page(tmp_path, study))
    shown = (
        "new Set([...document.querySelectorAll('#figure-learning [data-arm]')]"
        ".filter(part => getComputedStyle(part).display !== 'none').map(part => part.dataset.arm)).size"
    )
    assert browser.evaluate(shown) == 40
    num_colored = 40 - browser.evaluate(
        "new Set([...document.querySelectorAll('#figure-learning [data-quiet]')].map(part => part.dataset.arm)).size"
    )
    assert point_at(browser, "learning", "arm 17", "epoch 1:").startswith("arm 17\nepoch 1: ")
    lit = "getComputedStyle(document.querySelector('#figure-learning [data-quiet].lit path')).strokeWidth"
    assert browser.evaluate(lit) == "1.8px"
    browser.click("#figure-learning .switches .all:nth-child(3)")
    assert browser.evaluate(shown) == num_colored < 13
    browser.click("#figure-learning .switches .all:nth-child(1)")
    assert browser.evaluate(shown) == 40


def with_every_cost():
    """A warm start, costs that differ from seed to seed, and a latency."""
    study = started()
    trials = []
    for trial in study.trials:
        cost = {name: value * (1 + 0.3 * trial.seed) for name, value in trial.result.cost.items()}
        trials.append(replace(trial, result=replace(trial.result, cost=cost)))
    arms = tuple(arm_latency(name, p50=(1e-3, 2e-3, 1.5e-3)) for name in study.registration.arms)
    return replace(study, trials=tuple(trials), latency=measurement(arms=arms))


@pytest.mark.parametrize("width", [1200, 1000, 390])
def test_the_table_of_costs_is_read_without_scrolling_but_for_a_phone(browser, tmp_path, width):
    """With every column that it can have, and ranges in all of them."""
    browser.open(write_page(tmp_path, with_every_cost()), width=width, is_touch=width == 390)
    widths = browser.evaluate("(s => [s.scrollWidth, s.clientWidth])(document.querySelector('.cost .scroll'))")
    assert widths[0] == widths[1] or width == 390
    assert browser.evaluate("document.documentElement.scrollWidth") == width


def test_claim_row_and_figure_link_to_each_other(browser, page):
    browser.emulate(prefers_reduced_motion="reduce")  # scrolls at once
    browser.open(page)
    targets = "[...document.querySelectorAll('a[href^=\"#\"]')].map(a => [a.hash, !!document.querySelector(a.hash)])"
    found = browser.evaluate(targets)
    assert {"#arm-1", "#claim-1", "#figure-seeds", "#arms", "#reproduction"} <= {name for name, _ in found}
    assert all(exists for _, exists in found)
    browser.click("#claim-1 .see a")
    assert browser.evaluate("location.hash") == "#arm-1"
    assert browser.evaluate("document.querySelector('#arm-1').getBoundingClientRect().top") < 900


@pytest.mark.parametrize(
    ("arms", "seeds"),
    [(tuple(f"width ×{index} of the protocol, with a name that is long" for index in range(40)), 3),
     (("A", "B", "C", "D"), 100), (("A", "B"), 1), (HOSTILE, 2)],
    ids=["forty arms", "a hundred seeds", "one seed", "hostile names"],
)  # fmt: skip
def test_extreme_studies_fit_the_window_and_two_megabytes(browser, tmp_path, arms, seeds):
    study = record(arms=arms, seeds=seeds)
    study = replace(study, registration=replace(study.registration, claims=study.registration.claims[1:2]))
    page = write_page(tmp_path, study)
    assert page.stat().st_size < MAX_BYTES
    for width in (1400, 390):
        browser.open(page, width=width, is_touch=width == 390)
        assert browser.complaints() == []
        assert browser.evaluate("document.documentElement.scrollWidth") == width
    assert browser.evaluate("document.querySelectorAll('#table-results tbody tr').length") == len(arms)
    assert browser.evaluate("window.alerted") is None


def test_without_scripts_everything_is_there_to_read(browser, page):
    browser.send("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(page)
        text = browser.evaluate("document.body.innerText")
        assert "Test error and outcomes of the trials" in text
        assert "Learning curves" in text
        assert browser.evaluate("document.querySelectorAll('.switches, thead button, .tip').length") == 0
    finally:
        browser.send("Emulation.setScriptExecutionDisabled", value=False)
