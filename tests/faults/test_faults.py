"""One round of every fault: nothing is lost, nothing doubled, every bit as in an undisturbed run."""

import pytest

from tests.faults.ground import prepared
from tests.faults.judging import try_fault
from tests.faults.kinds import FAULTS

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("faults")]


@pytest.fixture(scope="module")
def ground():
    with prepared() as made:
        yield made


@pytest.mark.parametrize("name", FAULTS)
def test_a_study_outlives(name, ground):
    reason = FAULTS[name].needs()
    if reason:
        pytest.skip(reason)
    outcome = try_fault(ground, name, 0)
    print(outcome)
    assert outcome.is_good, "\n".join((str(outcome), *outcome.shown))
