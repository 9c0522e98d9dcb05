import sys
from types import SimpleNamespace

import pytest

from lightning_modules.spec import Custom
from lightning_modules.specs.errors import DamagedFileError, InvalidValue, UserError
from lightning_modules.specs.notebook_html import MAX_ROWS, render_line, render_list, render_table, render_view
from studies.tracking.errors import TrackingError

HOSTILE = '<script>alert("x")</script>'


def test_all_text_of_a_view_is_escaped():
    view = render_view(
        HOSTILE, render_line(HOSTILE), render_list([HOSTILE]), render_table([HOSTILE], [[HOSTILE]], numbers=(0,))
    )
    assert "<script" not in view
    assert view.count("&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;") == 5


def test_a_user_defined_network_is_escaped_too():
    view = Custom(class_path="my.Net", init_args={"name": HOSTILE})._repr_html_()
    assert "<script" not in view
    assert "my.Net" in view


def test_a_long_table_is_cut_and_says_so():
    table = render_table(("seed",), [(seed,) for seed in range(MAX_ROWS + 5)])
    assert table.count("<td>") == MAX_ROWS
    assert "and 5 more rows" in table


def test_nothing_is_rendered_as_nothing():
    assert render_table(("arm",), []) == render_line("") == render_list([]) == ""


ERRORS = [
    UserError("seeds are 0; expected 1 or more."),
    InvalidValue("seeds are 0; expected 1 or more."),
    DamagedFileError("result.json", "it is no JSON", "Delete it."),
    TrackingError("the tracking store does not answer."),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_notebook_shows_an_error_as_one_line(error, monkeypatch):
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: None))
    assert error._render_traceback_() == [f"{type(error).__name__}: {error}"]


def test_the_verbose_mode_of_a_notebook_shows_the_whole_traceback(monkeypatch):
    traceback = SimpleNamespace(mode="Verbose", structured_traceback=lambda *_: ["frame 1", "frame 2"])
    shell = SimpleNamespace(InteractiveTB=traceback)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    assert UserError("wrong")._render_traceback_() == ["frame 1", "frame 2"]
