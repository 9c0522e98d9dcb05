"""Pauses of the garbage collector, and objects that it is told to pass over."""

import gc
import weakref

import pytest

from studies.gc_pause import exempt_from_gc, pause_gc


class Node:
    """Something that can lie in a cycle."""


def make_cycle():
    node = Node()
    node.itself = node
    return weakref.ref(node)


@pytest.fixture(autouse=True)
def leave_as_it_was():
    """Leaves the collector as it was, with what the tests exempted back among the objects that it visits."""
    was_enabled, num_frozen = gc.isenabled(), gc.get_freeze_count()
    yield
    (gc.enable if was_enabled else gc.disable)()
    if gc.get_freeze_count() != num_frozen:
        gc.unfreeze()
    if num_frozen:  # of the test session itself
        gc.freeze()


@pytest.mark.parametrize("was_enabled", [True, False])
def test_it_is_disabled_within_and_then_as_it_was(was_enabled):
    (gc.enable if was_enabled else gc.disable)()
    with pause_gc():
        assert not gc.isenabled()
    assert gc.isenabled() == was_enabled
    with pytest.raises(ValueError, match="inside"), pause_gc():
        raise ValueError("inside")
    assert gc.isenabled() == was_enabled


def test_cycles_of_a_pause_are_freed_later():
    with pause_gc():
        within = make_cycle()
    gc.collect()
    assert within() is None


def test_exempt_objects_are_passed_over_and_later_ones_are_not():
    gc.disable()
    before = make_cycle()
    exempt_from_gc()
    after = make_cycle()
    gc.collect()
    assert before() is not None  # garbage, too, which is why it is called after imports alone
    assert after() is None


def test_a_pause_that_exempts_frees_its_garbage_first():
    num_frozen = gc.get_freeze_count()
    with pause_gc(exempt=True):
        within, kept = make_cycle(), Node()
        kept.itself = kept
    assert within() is None
    assert gc.get_freeze_count() > num_frozen
