"""Pauses of the garbage collector: nothing is collected within, and what is kept is not visited after."""

import gc
import weakref

import pytest

from studies.gc_pause import pause_gc


class Node:
    """Something that can lie in a cycle."""


def make_cycle():
    node = Node()
    node.itself = node
    return weakref.ref(node)


@pytest.fixture(autouse=True)
def thaw():
    """Leaves the collector as it was, with what the tests froze back among the objects that it visits."""
    was_enabled, num_frozen = gc.isenabled(), gc.get_freeze_count()
    yield
    (gc.enable if was_enabled else gc.disable)()
    if gc.get_freeze_count() != num_frozen:
        gc.unfreeze()
    if num_frozen:  # of the test session itself
        gc.freeze()


@pytest.mark.parametrize("was_enabled", [True, False])
@pytest.mark.parametrize("keep_allocated", [True, False])
def test_it_is_disabled_within_and_then_as_it_was(was_enabled, keep_allocated):
    (gc.enable if was_enabled else gc.disable)()
    with pause_gc(keep_allocated=keep_allocated):
        assert not gc.isenabled()
    assert gc.isenabled() == was_enabled
    with pytest.raises(ValueError, match="inside"), pause_gc(keep_allocated=keep_allocated):
        raise ValueError("inside")
    assert gc.isenabled() == was_enabled


def test_what_is_kept_is_not_visited_by_later_collections_and_what_comes_later_is():
    gc.disable()
    before = make_cycle()
    with pause_gc(keep_allocated=True):
        assert before() is None  # garbage of before is no part of what stays
        within = make_cycle()
    after = make_cycle()
    gc.collect()
    assert within() is not None
    assert after() is None
    assert gc.get_freeze_count() > 0


def test_without_that_cycles_of_the_block_are_freed_later():
    with pause_gc():
        within = make_cycle()
    gc.collect()
    assert within() is None
