"""Random damages to what is stored: none is accepted, none stops others, every message names a file."""

import shutil

import pytest

from tests.faults import damage

pytestmark = pytest.mark.xdist_group("one recorded study")


@pytest.fixture(scope="module")
def base(recorded, tmp_path_factory):
    runs = tmp_path_factory.mktemp("damage") / "runs"
    shutil.copytree(recorded.runs, runs)
    damage.prepare(runs)
    return runs


def bad(outcomes):
    return [str(each) for each in outcomes if each.outcome in damage.BAD]


def test_some_damages(base):
    assert bad(damage.run_rounds(base, rounds=2, seed=1)) == []


@pytest.mark.slow
def test_many_damages(base):
    outcomes = damage.run_rounds(base, rounds=110, seed=2)
    assert bad(outcomes) == []
    assert {each.kind for each in outcomes} == {*damage.KINDS}
    assert sum(each.outcome == "told" for each in outcomes) > 80


def test_what_no_command_says_is_counted_as_accepted(base, monkeypatch):
    monkeypatch.setattr(
        damage, "KINDS", {"logged: setup": damage.StoredKind(damage.LOGGED + "setup.json", (("status",),), True)}
    )
    monkeypatch.setattr(damage, "DAMAGES", (damage.flip,))
    assert [each.outcome for each in damage.run_rounds(base, rounds=1, seed=0)] == ["ACCEPTED"]
