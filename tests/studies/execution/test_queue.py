"""Who may start: donors first, nobody overtaken, no more at once than fit."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from studies.execution.queue import TrialQueue


@dataclass(frozen=True)
class Waiting:
    """As much of a job as the line looks at."""

    folder: Path
    dependency_folders: tuple[Path, ...] = ()


def line_of(*names, most=0, shares=None, retries=0):
    """A line of jobs; ``b<a+c`` has the donors ``a`` and ``c``; each takes a quarter of all machines unless told so."""
    pairs = [name.partition("<") for name in names]
    jobs = [Waiting(Path(name), tuple(map(Path, filter(None, donors.split("+"))))) for name, _, donors in pairs]
    return TrialQueue(jobs, lambda job: (shares or {}).get(str(job.folder), 0.25), most, retries)


def started(line):
    """The names of all that can start now."""
    found = []
    while (number := line.start_next()) is not None:
        found.append(str(line.jobs[number].folder))
    return found


def end(line, name, **how):
    line.mark_ended(next(number for number in line.running if str(line.jobs[number].folder) == name), **how)


def test_jobs_start_in_their_order_and_as_many_as_fit():
    line = line_of(*"abcdef")
    assert started(line) == ["a", "b", "c", "d"]
    end(line, "b")
    assert started(line) == ["e"]


def test_no_more_start_at_once_than_were_allowed():
    line = line_of(*"abc", most=2)
    assert started(line) == ["a", "b"]
    end(line, "a")
    assert started(line) == ["c"]


def test_who_met_a_fault_starts_again_before_all_others_and_so_often_only():
    line = line_of(*"abc", "warm<a", most=1, retries=2)
    assert started(line) == ["a"]
    assert line.record_fault(0) == 1
    assert started(line) == ["a"]
    assert line.record_fault(0) == 2
    assert started(line) == ["a"]
    assert line.record_fault(0) == 0
    assert started(line) == ["b"]
    end(line, "b")
    end(line, *started(line))
    assert started(line) == ["warm"]


def test_who_starts_from_a_donor_waits_for_it_alone_and_no_longer():
    line = line_of("warm<donor", "donor", "cold", "other")
    assert started(line) == ["donor", "cold", "other"]
    end(line, "cold")
    assert started(line) == []
    end(line, "donor")
    assert started(line) == ["warm"]


def test_who_tests_two_donors_waits_for_both():
    line = line_of("pair<first+second", "first", "second")
    assert started(line) == ["first", "second"]
    end(line, "second")
    assert started(line) == []
    end(line, "first")
    assert started(line) == ["pair"]


def test_a_donor_that_is_not_in_the_line_has_been_trained_before():
    assert started(line_of("warm<donor")) == ["warm"]


def test_nobody_overtakes_a_job_for_which_there_is_no_room_yet():
    line = line_of("a", "large", "b", shares={"large": 1.0})
    assert started(line) == ["a"]
    end(line, "a")
    assert started(line) == ["large"]
    end(line, "large")
    assert started(line) == ["b"]


def test_a_job_larger_than_what_is_left_of_the_machines_runs_alone():
    """Its nodes may come back; meanwhile nothing else waits for ever behind it."""
    line = line_of("a", "b", shares={"a": 4.0})
    assert started(line) == ["a"]


def test_shares_of_a_third_fill_the_machines():
    assert started(line_of("a", "b", "c", "d", shares=dict.fromkeys("abcd", 1 / 3))) == ["a", "b", "c"]


def test_a_job_whose_donor_is_trained_elsewhere_is_given_back_and_the_others_go_on():
    line = line_of("last<warm", "warm<donor", "donor", "cold")
    assert started(line) == ["donor", "cold"]
    end(line, "donor", is_elsewhere=True)
    assert started(line) == []
    assert line.is_over
    assert {str(job.folder) for job in line.blocked_jobs} == {"warm", "last"}
    assert line.running == {3}


@pytest.mark.parametrize("names", [(), ("a",)])
def test_a_line_is_over_when_all_have_started(names):
    line = line_of(*names)
    assert line.is_over == (not names)
    started(line)
    assert line.is_over
