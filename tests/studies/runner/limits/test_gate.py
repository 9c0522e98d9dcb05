"""The gate in front of the queue: whole seeds, in time, by what was measured; with a clock that the test turns."""

import math
import random
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from studies.design.budget import RunBudget
from studies.execution.cluster.queue import TrialQueue, bundle_jobs
from studies.runner.limits import gate as gate_module
from studies.runner.limits.durations import TrialDurations
from studies.runner.limits.gate import BudgetExhausted, BudgetGate


@dataclass(frozen=True)
class FakeTrial:
    """As much of a trial as gate and durations look at."""

    arm: str
    seed: int
    epochs: int = 10
    is_candidate: bool = False


@dataclass(eq=False)
class FakeJob:
    """As much of a job as gate and queue look at; like one, it cannot be hashed."""

    __hash__ = None

    trial: FakeTrial
    folder: Path
    dependency_folders: tuple[Path, ...] = ()
    retrain: bool = False


@dataclass
class Machine:
    """Runs a queue with the gate in front of it, by a clock of its own.

    Attributes:
        seconds: what a trial truly takes.
        ended: jobs in the order of their end, with its time.
    """

    budget: RunBudget
    seconds: object
    workers: int = 1
    estimate: object = None
    gpus: float = 0.0
    bundle_size: int = 1
    now: float = 0.0
    ended: list = field(default_factory=list)
    log: list = field(default_factory=list)

    def __post_init__(self):
        self.gate = BudgetGate(
            self.budget,
            0.0,
            TrialDurations(self.estimate or self.seconds),
            lambda _: self.gpus,
            0,
            self.log.append,
            lambda: self.now,
        )

    def run(self, jobs):
        """Run what is admitted to its end, and raise where something is left."""
        bundles = bundle_jobs(jobs, lambda _: self.bundle_size)
        queue = TrialQueue(jobs, lambda _: 1 / self.workers, bundles=bundles, gate=self.gate)
        running = {}
        while True:
            while (bundle := queue.start_next()) is not None:
                running[bundle] = self.now + max(self.seconds(jobs[index].trial) for index in bundle)
            if not running:
                assert queue.is_over
                break
            bundle = min(running, key=running.get)
            self.now = max(self.now, running.pop(bundle))
            for index in bundle:
                queue.mark_ended(index)
                self.ended.append((jobs[index], self.now))
            self.now += gate_module.REFUSAL_SECONDS  # the loop of Tune, in which a refusal expires
        self.gate.require_all_admitted(jobs)

    @property
    def seeds(self):
        """Seeds of which trials have ended, with their arms."""
        arms = {}
        for job, _ in self.ended:
            arms.setdefault(job.trial.seed, set()).add(job.trial.arm)
        return arms


@pytest.fixture(autouse=True)
def without_folders(monkeypatch):
    monkeypatch.setattr(gate_module, "_has_run_whole", lambda _: True)
    monkeypatch.setattr(gate_module, "_share_left", lambda _: 1.0)
    monkeypatch.setattr(gate_module, "CLOSING_SECONDS", 0.0)
    monkeypatch.setattr(gate_module, "RAY_START_SECONDS", 0.0)


def study(arms="AB", seeds=5):
    return [FakeJob(FakeTrial(arm, seed), Path(f"{arm}{seed}")) for seed in range(seeds) for arm in arms]


def ten(trial):
    return 10.0


def test_without_a_limit_everything_is_trained():
    machine = Machine(RunBudget(), ten)
    machine.run(study())
    assert len(machine.ended) == 10


def test_it_stops_at_whole_seeds_and_says_what_the_next_one_would_take():
    machine = Machine(RunBudget(max_seconds=60), ten)
    with pytest.raises(BudgetExhausted) as stop:
        machine.run(study())
    assert machine.seeds == {0: {"A", "B"}, 1: {"A", "B"}}
    assert machine.ended[-1][1] <= 60
    assert str(stop.value) == (
        "stopped at its budget of 1 min, after 2 seeds in 44 s: seed 2 (2 trials) and the end of the study would "
        "take 22 s more. "
        "The same command goes on, with a budget of its own"
    )


def test_where_the_first_seed_does_not_fit_nothing_starts_and_the_text_says_what_it_takes():
    machine = Machine(RunBudget(max_seconds=15), ten)
    with pytest.raises(BudgetExhausted) as stop:
        machine.run(study())
    assert machine.ended == []
    assert str(stop.value) == (
        "stopped at its budget of 15 s: the study would take 22 s with seed 0 (2 trials). Nothing was started; "
        "it takes about --max-time 22s"
    )
    machine = Machine(RunBudget(max_seconds=22), ten)
    with pytest.raises(BudgetExhausted):
        machine.run(study())
    assert machine.seeds == {0: {"A", "B"}}


def test_it_can_be_asked_before_anything_is_queued():
    machine = Machine(RunBudget(max_seconds=15), ten)
    with pytest.raises(BudgetExhausted, match="Nothing was started"):
        machine.gate.require_first_admitted(study(), lambda _: 1.0)
    machine = Machine(RunBudget(max_seconds=25), ten)
    machine.gate.require_first_admitted(study(), lambda _: 1.0)


def test_gpu_hours_and_costs_stop_it_alike():
    jobs = study()
    for budget in (RunBudget(max_gpu_hours=40 / 3600), RunBudget(max_cost=40.0, price_per_gpu_hour=3600.0)):
        machine = Machine(budget, ten, workers=2, gpus=0.5)
        with pytest.raises(BudgetExhausted, match=r"GPU hours|a cost of") as stop:
            machine.run(jobs)
        assert sorted(machine.seeds) == [0, 1, 2]  # two trials of a seed hold half a GPU for 10 s each
        assert all(arms == {"A", "B"} for arms in machine.seeds.values())
        assert "seed 3 (2 trials)" in str(stop.value)


def test_a_wrong_estimate_is_replaced_by_what_is_measured():
    machine = Machine(RunBudget(max_seconds=100), ten, estimate=lambda _: 1.0)
    with pytest.raises(BudgetExhausted):
        machine.run(study())
    assert sorted(machine.seeds) == [0, 1, 2, 3]
    assert machine.ended[-1][1] <= 100


def test_a_slow_machine_is_known_by_the_arms_that_have_ended():
    durations = TrialDurations(lambda trial: {"A": 2.0, "B": 6.0}[trial.arm])
    assert durations.seconds_of(FakeTrial("B", 0)) == 6
    durations.record(FakeTrial("A", 0), 8.0)
    assert durations.seconds_of(FakeTrial("A", 1)) == 8
    assert durations.seconds_of(FakeTrial("B", 0)) == 24
    assert durations.seconds_of(FakeTrial("A", 1, epochs=5)) == 4
    assert durations.seconds_of(FakeTrial("A", 1), bundle_size=3) == 24


def test_a_smaller_bundle_is_not_expected_to_take_longer_than_a_larger_one():
    durations = TrialDurations(ten)
    durations.record(FakeTrial("A", 0), 30.0, bundle_size=4)
    assert durations.seconds_of(FakeTrial("A", 9), bundle_size=2) == 30
    durations.record(FakeTrial("A", 4), 18.0, bundle_size=2)
    assert durations.seconds_of(FakeTrial("A", 9), bundle_size=2) == 18


def test_where_nothing_can_be_estimated_one_seed_starts_and_the_rest_is_decided_by_it():
    machine = Machine(RunBudget(max_seconds=70), ten, estimate=lambda _: math.nan)
    with pytest.raises(BudgetExhausted):
        machine.run(study())
    assert machine.seeds == {0: {"A", "B"}, 1: {"A", "B"}, 2: {"A", "B"}}
    assert "seed 0 starts, and the rest is decided by its time" in machine.log[0]


def test_a_bundle_of_seeds_is_admitted_with_all_arms_or_not_at_all():
    jobs = study(seeds=6)
    machine = Machine(RunBudget(max_seconds=50), ten, bundle_size=2, estimate=lambda _: 5.0)
    with pytest.raises(BudgetExhausted, match="seeds 4 and 5"):
        machine.run(jobs)
    assert sorted(machine.seeds) == [0, 1, 2, 3]


def test_candidates_of_a_tuning_round_are_admitted_together():
    candidates = [
        FakeJob(FakeTrial(arm, 1_000 + number, is_candidate=True), Path(f"{arm}-{number}"))
        for number in range(2)
        for arm in "AB"
    ]
    machine = Machine(RunBudget(max_seconds=35), ten)
    with pytest.raises(BudgetExhausted, match="the next tuning round \\(4 trials\\) and the end"):
        machine.run([*study(seeds=1)[:1], *candidates])
    assert len(machine.ended) == 1


@pytest.mark.parametrize("number", range(100))
def test_whatever_trials_take_every_seed_that_starts_ends_in_all_arms(number):
    rng = random.Random(number)
    arms = "ABCDEF"[: rng.randint(1, 6)]
    true_seconds = {arm: rng.uniform(1, 100) for arm in arms}

    def seconds(trial):
        return true_seconds[trial.arm] * random.Random(f"{trial.arm}{trial.seed}").uniform(0.95, 1.0)

    def estimate(trial):
        return true_seconds[trial.arm] * factor

    factor = rng.choice([0.5, 1.0, 1.0, 2.0])
    limit = rng.uniform(1, 1_500)
    machine = Machine(
        RunBudget(max_seconds=limit), seconds, rng.randint(1, 4), estimate, bundle_size=rng.choice([1, 1, 2])
    )
    jobs = study(arms, rng.randint(1, 8))
    try:
        machine.run(jobs)
    except BudgetExhausted:
        assert len(machine.ended) < len(jobs)
    else:
        assert len(machine.ended) == len(jobs)
    assert all(found == set(arms) for found in machine.seeds.values())
    if machine.ended and factor >= 1:
        assert machine.ended[-1][1] <= limit
