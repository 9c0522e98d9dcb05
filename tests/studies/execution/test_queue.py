"""Who may start: donors first, nobody overtaken, no more at once than fit."""

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from studies.execution.cluster.queue import TrialQueue, bundle_jobs


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
    while (bundle := line.start_next()) is not None:
        found += [str(line.jobs[number].folder) for number in bundle]
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
    assert line.record_faults([0]) == [1]
    assert started(line) == ["a"]
    assert line.record_faults([0]) == [2]
    assert started(line) == ["a"]
    assert line.record_faults([0]) == [0]
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
    assert set(line.running) == {3}


@pytest.mark.parametrize("names", [(), ("a",)])
def test_a_line_is_over_when_all_have_started(names):
    line = line_of(*names)
    assert line.is_over == (not names)
    started(line)
    assert line.is_over


def bundled(jobs, size):
    """Bundles of jobs of two arms, three seeds each, seed by seed."""
    return bundle_jobs(jobs, lambda _: size)


def test_a_job_that_must_be_alone_joins_no_bundle_and_opens_none():
    compiled = (True, False, False, True)
    jobs = [SimpleNamespace(trial=SimpleNamespace(arm="A", is_compiled=value)) for value in compiled]
    assert bundle_jobs(jobs, lambda job: 1 if job.trial.is_compiled else 3) == [(0,), (1, 2), (3,)]


@dataclass(frozen=True)
class Arm:
    """As much of a trial as bundling looks at."""

    arm: str


@dataclass(frozen=True)
class Job(Waiting):
    """A job of an arm."""

    trial: Arm = Arm("A")


JOBS = [Job(Path(f"{arm}{seed}"), trial=Arm(arm)) for seed in range(3) for arm in "DE"]


@pytest.mark.parametrize(
    ("size", "bundles"),
    [
        (1, [(0,), (1,), (2,), (3,), (4,), (5,)]),
        (2, [(0, 2), (1, 3), (4,), (5,)]),
        (3, [(0, 2, 4), (1, 3, 5)]),
        (8, [(0, 2, 4), (1, 3, 5)]),
    ],
)
def test_seeds_of_an_arm_share_a_bundle_and_keep_their_order(size, bundles):
    assert bundled(JOBS, size) == bundles


def test_a_bundle_takes_the_room_of_one_trial_until_its_last_one_ends():
    line = TrialQueue(JOBS, lambda _: 1.0, bundles=bundled(JOBS, 2))
    assert line.start_next() == (0, 2)
    assert line.start_next() is None
    line.mark_ended(0)
    assert line.start_next() is None
    line.mark_ended(2)
    assert line.start_next() == (1, 3)


def test_the_trials_of_a_bundle_count_one_by_one_where_only_so_many_may_run():
    line = TrialQueue(JOBS, lambda _: 0.1, max_running=4, bundles=bundled(JOBS, 3))
    assert line.start_next() == (0, 2, 4)
    assert line.start_next() is None
    line.mark_ended(0)
    assert line.start_next() is None
    line.mark_ended(2)
    assert line.start_next() == (1, 3, 5)


def test_a_bundle_that_met_a_fault_starts_together_once_more_and_then_one_by_one():
    line = TrialQueue(JOBS, lambda _: 1.0, max_retries=2, bundles=bundled(JOBS, 3))
    assert line.start_next() == (0, 2, 4)
    line.mark_ended(2)
    assert line.record_faults([0, 4]) == [1, 1]
    assert line.start_next() == (0, 4)
    assert line.record_faults([0, 4]) == [2, 2]
    assert line.start_next() == (0,)
    assert line.record_faults([0]) == [0]
    assert line.start_next() == (4,)
    assert not line.is_over
