"""A study: an ablation under a protocol, with seeds, overrides, a tuning budget and interim analyses."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

from ablations import REDRAW_PATHS, Ablation, compare_setups, paths_overlap, summarize_differences
from lightning_modules.specs.errors import InvalidValue
from lightning_modules.specs.notebook_html import render_line, render_list, render_table, render_view
from lightning_modules.specs.setup import Setup
from lightning_modules.specs.text import format_count, format_points
from lightning_modules.specs.values import Leaf, flatten_fields
from studies.design.trial import Trial, hash_content, with_dependencies
from studies.design.tuning import TuningBudget, tuning_to_json
from studies.protocols import Protocol

MAX_SEED = 2**32 - 1  # 32 bits: what NumPy, scikit-learn and others accept as a seed
MAX_NUM_SEEDS = 2000  # finds a difference of a tenth of its spread; more is a seed taken for a number of seeds

# Every analysis spends a share of the error rate, and the first fractions of a few seeds round to the same number.
MAX_INTERIM_ANALYSES = 5


@dataclass(frozen=True, kw_only=True)
class Study:
    """An ablation under a protocol with seeds.

    Attributes:
        overrides: values by setting path, applied to every arm alike; an arm's multiple (``Times``) multiplies them.
        import_paths: folders in which Python finds the user's modules.
        tuning: budget for tuning every arm's recipe, in addition to the comparison under the shared recipe; ``None``
            for a study without tuning.
        looks: numbers of seeds after which a sequential study analyses its claims, to stop once all are resolved; empty
            where all seeds are trained at once.

    Raises:
        InvalidValue: for seeds that repeat or are negative, for overrides that touch what the ablation varies or would
            undo a forced change, and for tuning or interim analyses that cannot be run as declared.
    """

    name: str
    ablation: Ablation
    protocol: Protocol
    seeds: tuple[int, ...]
    overrides: Mapping[str, Leaf]
    import_paths: tuple[str, ...] = ()
    tuning: TuningBudget | None = None
    looks: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.seeds:
            raise InvalidValue("a study needs at least one seed.")
        if len(set(self.seeds)) != len(self.seeds) or not all(_is_valid_seed(seed) for seed in self.seeds):
            raise InvalidValue(
                f"seeds are {list(self.seeds)}; expected different whole numbers from 0 up to {MAX_SEED}."
            )
        if len(self.seeds) > MAX_NUM_SEEDS:
            raise InvalidValue(f"a study has {len(self.seeds):,} seeds; expected {MAX_NUM_SEEDS:,} or fewer.")
        self._check_interim_analyses()
        setups = self.setups()
        if self.tuning:
            self._require_tunable_arms(setups, self.tuning)
            self._check_tuning_seeds(self.tuning)
            # Bounds in numbers from here on: they are part of the conditions digest. The class is frozen.
            object.__setattr__(self, "tuning", self.tuning.resolve_for_study(setups, self.varied_paths))

    def __repr__(self) -> str:
        num_arms, num_seeds = len(self.ablation.all_arms), len(self.seeds)
        settings = "".join(f", {path}={value}" for path, value in self.overrides.items())
        return f"<Study {self.name} under {self.protocol.name}{settings}: {num_arms} arms × {num_seeds} seeds>"

    def _repr_html_(self) -> str:
        setups = self.setups()
        (baseline, baseline_setup), *others = setups.items()
        rows = [(baseline, "baseline")]
        for arm, setup in others:
            rows.append((arm, "; ".join(summarize_differences(compare_setups(baseline_setup, setup)))))
        settings = ", ".join(f"{path}={value}" for path, value in self.overrides.items())
        facts = f"Protocol {self.protocol.name}{f' with {settings}' if settings else ''}; seeds {list(self.seeds)}; "
        facts += (
            f"{len(self.trials())} trials; smallest effect of interest {format_points(self.protocol.smallest_effect)}."
        )
        claims = [claim.sentence for claim in self.ablation.claims]
        return render_view(
            f"{self.name}: {self.ablation.question.strip()}",
            render_table(("arm", "changes from the baseline"), rows),
            render_line(facts),
            render_line("Claims:" if claims else ""),
            render_list(claims),
        )

    @property
    def varied_paths(self) -> tuple[str, ...]:
        """Paths in which the arms may differ: the varied and the forced ones."""
        return (*self.ablation.varies, *self.ablation.forced)

    def _check_interim_analyses(self) -> None:
        if not self.looks:
            return
        is_increasing = list(self.looks) == sorted(set(self.looks))
        # One seed has no variance: the first analysis needs two.
        if len(self.looks) > MAX_INTERIM_ANALYSES or not is_increasing or self.looks[0] < 2:
            raise InvalidValue(
                f"looks are {list(self.looks)}; expected up to {MAX_INTERIM_ANALYSES} increasing numbers of seeds from "
                "2 up, such as 3, 5, 10: every interim analysis takes its share of the error rate."
            )
        # Stages are prefixes of the seeds, in increasing order, so that every one of them extends the one before.
        if len(self.seeds) != self.looks[-1] or list(self.seeds) != sorted(self.seeds):
            raise InvalidValue(
                f"the last look is at {format_count(self.looks[-1], 'seed')}, and the study has "
                f"{format_count(len(self.seeds), 'seed')}: {', '.join(map(str, self.seeds))}; expected equal numbers, "
                "and seeds in increasing order."
            )

    def _require_tunable_arms(self, setups: Mapping[str, Setup], tuning: TuningBudget) -> None:
        if "recipe.trains" in tuning.paths:
            raise InvalidValue(
                "recipe.trains cannot be tuned; expected another setting of the recipe: a linear classifier has no "
                "recipe to be tuned with it. Leave it out of the space."
            )
        evaluations: list[str] = []
        linear_probes: list[str] = []
        for arm, setup in setups.items():
            if not setup.has_training:
                evaluations.append(arm)
            elif not setup.epochs:
                linear_probes.append(arm)
        if linear_probes:
            raise InvalidValue(
                f"{', '.join(linear_probes)} of {self.name} train a linear classifier, whose strength is always chosen "
                "on validation; expected arms that train a network, where recipes are to be tuned. Leave out --tune."
            )
        if evaluations:
            raise InvalidValue(
                f"{', '.join(evaluations)} of {self.name} only evaluate trained networks; expected arms that train, "
                "where recipes are to be tuned. Leave out --tune."
            )

    def _check_tuning_seeds(self, tuning: TuningBudget) -> None:
        if not all(_is_valid_seed(seed) for seed in tuning.seeds):
            raise InvalidValue(
                f"tuning seeds are {list(tuning.seeds)}; expected different whole numbers from 0 up to {MAX_SEED}."
            )
        shared = sorted({*self.seeds} & {*tuning.seeds})
        if shared:
            raise InvalidValue(
                f"seed {shared[0]} is a tuning seed and a seed of the comparison; expected other seeds for tuning: a "
                "recipe's results under the seeds that it was chosen on are biased."
            )

    def setups(self) -> dict[str, Setup]:
        """Return every arm's setup, baseline first, with the one-change contract checked under this protocol."""
        for path in self.overrides:  # first, so that the error names the override and not the contract
            self._check_override(path)
        return self.ablation.setups(self.base_setup, self.overrides)

    def _check_override(self, path: str) -> None:
        if path in REDRAW_PATHS:
            raise InvalidValue(
                f"{path} is what a placebo sets; it cannot be set for all arms. Add a Placebo to the ablation's arms."
            )
        if any(paths_overlap(path, varied) for varied in self.ablation.varies):
            raise InvalidValue(
                f"{path} is what {self.name} varies ({', '.join(self.ablation.varies)}); it cannot be set for all arms."
            )
        overwritten = self.ablation.arms_overwritten_by(path, self.base_setup, self.overrides)
        if overwritten:
            raise InvalidValue(
                f"{path} is forced in {self.name} to a value of its own in {', '.join(map(repr, overwritten))}; it "
                "cannot be set for all arms. Change it in the ablation's file, or make it a multiple there: Times(2)."
            )

    @property
    def base_setup(self) -> Setup:
        """The protocol's setup for the baseline's kind of network, which the overrides may decide."""
        baseline = self.ablation.baseline.apply(self.protocol.setup, self.overrides)
        return self.protocol.setup_for(type(baseline.network).__name__)

    @property
    def source_arms(self) -> dict[str, str]:
        """Per arm with a warm start, the name of its source: another arm, or a network trained for it."""
        return {arm: names[0] for arm, (trains, names) in self._dependencies_by_arm.items() if trains}

    @property
    def evaluated_arms(self) -> dict[str, tuple[str, ...]]:
        """Per arm that only evaluates, the names of the arms or other trials whose networks it evaluates."""
        return {arm: names for arm, (trains, names) in self._dependencies_by_arm.items() if not trains}

    @cached_property
    def _dependencies_by_arm(self) -> dict[str, tuple[bool, tuple[str, ...]]]:
        """Per arm with dependencies, whether it trains, and the names of its dependencies."""
        trials = make_trials(self.setups(), self.seeds[:1])  # the dependencies are the same under every seed
        names = {trial.fingerprint: trial.arm for trial in trials}
        dependencies: dict[str, tuple[bool, tuple[str, ...]]] = {}
        for trial in trials:
            if trial.dependencies:
                dependency_names = tuple(names[dependency.fingerprint] for dependency in trial.dependencies)
                dependencies[trial.arm] = trial.setup.has_training, dependency_names
        return dependencies

    @property
    def dependency_setups(self) -> dict[str, Setup]:
        """Setups of all source and evaluated networks, by the names of their trials."""
        names = {*self.source_arms.values(), *chain(*self.evaluated_arms.values())}
        trials = make_trials(self.setups(), self.seeds[:1])
        return {trial.arm: trial.setup for trial in trials if trial.arm in names}

    def trials(self) -> tuple[Trial, ...]:
        """Return all trials under the shared recipe, seed by seed, each after its dependencies."""
        return make_trials(self.setups(), self.seeds)

    @property
    def seed_stages(self) -> tuple[tuple[int, ...], ...]:
        """Seeds that are trained up to each interim analysis; one stage of all seeds where there are none."""
        return tuple(self.seeds[:count] for count in self.looks or (len(self.seeds),))

    def conditions_digest(self, data_digest: str, user_code_digest: str = "") -> str:
        """Identity of everything that decides the arms' trials but seeds, this package's code and the platform.

        The user's own code is a condition like a setup: a registration describes the networks that it makes.
        """
        content: dict[str, object] = {
            "arms": {arm: flatten_fields(setup) for arm, setup in self.setups().items()},
            "data": data_digest,
        }
        # Left out where empty: a study keeps the digest that it had before these were part of the conditions.
        optional_content: dict[str, object] = {
            "tuning": tuning_to_json(self.tuning),
            "looks": list(self.looks),
            "user_code": user_code_digest,
        }
        for name, value in optional_content.items():
            if value:
                content[name] = value
        return hash_content(content)


def count_to_seeds(num_seeds: int) -> tuple[int, ...]:
    """Return the seeds that a number of seeds stands for, from 0 up.

    Raises:
        InvalidValue: for a number out of bounds, which may have been meant as a seed.
    """
    if 1 <= num_seeds <= MAX_NUM_SEEDS:
        return tuple(range(num_seeds))
    is_seed = num_seeds == 0 or MAX_NUM_SEEDS < num_seeds <= MAX_SEED
    hint = f" Did you mean the seed {num_seeds}? Write it with a comma: {num_seeds}," if is_seed else ""
    raise InvalidValue(f"{num_seeds} seeds; expected a number of seeds from 1 to {MAX_NUM_SEEDS:,}.{hint}")


def default_interim_seeds(max_seeds: int) -> tuple[int, ...]:
    """Return up to three analyses, at about 30 %, 50 % and all of the seeds: 3, 5 and 10 of ten."""
    first, second = max(2, math.ceil(0.3 * max_seeds)), max(2, math.ceil(0.5 * max_seeds))
    return tuple(sorted({first, second, max_seeds}))


def make_trials(setups: Mapping[str, Setup], seeds: Iterable[int]) -> tuple[Trial, ...]:
    """Make a trial of every setup under every seed, seed by seed, each after its dependencies."""
    return with_dependencies(Trial(arm=arm, setup=setups[arm], seed=seed) for seed in seeds for arm in setups)


def sort_longest_first(trials: Iterable[Trial], multiply_adds_by_arm: Mapping[str, int]) -> tuple[Trial, ...]:
    """Sort trials by seed, and by falling cost within a seed.

    Seed by seed, so that an interrupted study leaves complete pairs; the costliest first, so that no long trial starts
    last on an otherwise idle machine (longest processing time first, Graham 1969). A trial's cost includes that of the
    costliest chain of trials that depend on it.
    """
    trials = tuple(trials)
    seeds = list(dict.fromkeys(trial.seed for trial in trials))
    costs: dict[str, int] = {}
    dependent_costs: dict[str, int] = {}
    for trial in reversed(with_dependencies(trials)):  # dependents before their dependencies
        cost = multiply_adds_by_arm.get(trial.arm, 0) + dependent_costs.get(trial.fingerprint, 0)
        costs[trial.fingerprint] = cost
        for dependency in trial.dependencies:
            dependent_costs[dependency.fingerprint] = max(dependent_costs.get(dependency.fingerprint, 0), cost)
    return tuple(sorted(trials, key=lambda trial: (seeds.index(trial.seed), -costs[trial.fingerprint])))


def _is_valid_seed(seed: object) -> bool:
    # A bool is an int in Python, and ``seeds=(True,)`` is a mistake.
    return isinstance(seed, int) and not isinstance(seed, bool) and 0 <= seed <= MAX_SEED
