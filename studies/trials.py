"""Protocols and studies: what is to be trained, and under which conditions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from ablations import Ablation, touches
from lightning_modules.spec import Setup
from lightning_modules.values import InvalidValue, Leaf, edit, flatten, require, to_json
from studies.fits import Fit, hashed, with_donors
from studies.tuning import Tuning

LARGEST_SEED = 2**32 - 1
MOST_LOOKS = 5


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """The conditions that every arm of a study shares.

    Attributes:
        note: claim, cost and command; by habit the file's docstring.
        setup: the base setup; an ablation's arms edit it.
        families: per kind of network (``ResNet``), what is set otherwise for a study of such networks: in every arm, as
            the baseline's kind says.
        seeds: default seeds.
        smallest_effect: smallest difference of interest in test error, percentage points.
    """

    name: str
    note: str
    setup: Setup
    seeds: tuple[int, ...]
    smallest_effect: float
    families: Mapping[str, Mapping[str, Leaf]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(len(self.seeds) >= 1, self, "seeds", "at least one seed")
        require(self.smallest_effect > 0, self, "smallest_effect", "points of error above 0")
        for kind in self.families:
            self.setup_for(kind)

    def setup_for(self, kind: str) -> Setup:
        """The base setup of a study of one kind of network."""
        setup = self.setup
        for path, value in self.families.get(kind, {}).items():
            setup = edit(setup, path, value)
        return setup


@dataclass(frozen=True, kw_only=True)
class Study:
    """An ablation under a protocol with seeds. Overrides apply to every arm alike; a multiple is one of what they set.

    Attributes:
        import_paths: folders in which Python finds the user's modules.
        tuning: how every arm's recipe is tuned, beside the comparison under the shared one; ``None`` where it is not.
        looks: numbers of seeds after which a sequential study looks at its claims, and stops once all are resolved;
            empty where all seeds are trained at once.

    Raises:
        InvalidValue: for seeds that repeat or are negative, for overrides that touch what the ablation varies, or
            would undo what an arm is forced to change, and for tuning and looks that cannot be.
    """

    name: str
    ablation: Ablation
    protocol: Protocol
    seeds: tuple[int, ...]
    overrides: Mapping[str, Leaf]
    import_paths: tuple[str, ...] = ()
    tuning: Tuning | None = None
    looks: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.seeds:
            raise InvalidValue("a study needs at least one seed.")
        if len(set(self.seeds)) != len(self.seeds) or not all(_is_seed(seed) for seed in self.seeds):
            raise InvalidValue(
                f"seeds are {list(self.seeds)}; expected different whole numbers from 0 up to {LARGEST_SEED}."
            )
        self._check_looks()
        setups = self.setups()
        if self.tuning:
            self._check_that_all_train(setups)
            self._check_tuning_seeds(self.tuning)
            object.__setattr__(self, "tuning", self.tuning.for_study(setups, self.varied))

    @property
    def varied(self) -> tuple[str, ...]:
        """Paths in which the arms may differ."""
        return (*self.ablation.varies, *self.ablation.forced)

    def _check_looks(self) -> None:
        if not self.looks:
            return
        if len(self.looks) > MOST_LOOKS or list(self.looks) != sorted(set(self.looks)) or self.looks[0] < 2:
            raise InvalidValue(
                f"looks are {list(self.looks)}; expected up to {MOST_LOOKS} growing numbers of seeds from 2 up, such "
                "as 3, 5, 10: every look takes its share of the error rate."
            )
        if len(self.seeds) != self.looks[-1] or list(self.seeds) != sorted(self.seeds):
            raise InvalidValue(
                f"the last look is at {self.looks[-1]} seeds, and the study has {list(self.seeds)}; expected that "
                "many, in growing order."
            )

    def _check_that_all_train(self, setups: Mapping[str, Setup]) -> None:
        fixed = [arm for arm, setup in setups.items() if setup.trains and not setup.epochs]
        if fixed:
            raise InvalidValue(
                f"{', '.join(fixed)} of {self.name} train a linear classifier, whose strength is chosen on validation "
                "as it is; expected arms that train a network, where recipes are to be tuned. Leave out --tune."
            )
        testing = [arm for arm, setup in setups.items() if not setup.trains]
        if testing:
            raise InvalidValue(
                f"{', '.join(testing)} of {self.name} test what others have trained; expected arms that train, where "
                "recipes are to be tuned. Leave out --tune."
            )

    def _check_tuning_seeds(self, tuning: Tuning) -> None:
        shared = sorted({*self.seeds} & {*tuning.seeds})
        if shared:
            raise InvalidValue(
                f"seed {shared[0]} is to tune and to compare; expected other seeds for tuning, so that what was chosen "
                "on them proves nothing about them."
            )

    def setups(self) -> dict[str, Setup]:
        """Every arm's setup, baseline first, with the one-change contract proved under this protocol."""
        for path in self.overrides:
            self._refuse_what_differs(path)
        return self.ablation.setups(self.base, self.overrides)

    def _refuse_what_differs(self, path: str) -> None:
        if any(touches(path, varied) for varied in self.ablation.varies):
            raise InvalidValue(
                f"{path} is what {self.name} varies ({', '.join(self.ablation.varies)}); it cannot be set for all arms."
            )
        lost = self.ablation.erased(path, self.base, self.overrides)
        if lost:
            raise InvalidValue(
                f"{path} is forced in {self.name} to a value of its own in {', '.join(map(repr, lost))}; it cannot be "
                "set for all arms. Change it in the ablation's file, or make it a multiple there: Times(2)."
            )

    @property
    def base(self) -> Setup:
        """The protocol's setup for the kind of network that the baseline is, at what is set for all arms."""
        baseline = self.ablation.baseline.apply(self.protocol.setup, self.overrides)
        return self.protocol.setup_for(type(baseline.network).__name__)

    @property
    def donors(self) -> dict[str, str]:
        """Per arm with a warm start, the arm whose trials its own start from."""
        return {arm: names[0] for arm, (trains, names) in self._served.items() if trains}

    @property
    def tested(self) -> dict[str, tuple[str, ...]]:
        """Per arm that trains nothing, the arms whose trained networks it tests."""
        return {arm: names for arm, (trains, names) in self._served.items() if not trains}

    @cached_property
    def _served(self) -> dict[str, tuple[bool, tuple[str, ...]]]:
        """Per arm that has donors, whether it trains, and their names."""
        fits = fits_of(self.setups(), self.seeds[:1])  # under every seed they are the same
        names = {fit.fingerprint: fit.arm for fit in fits}
        return {
            fit.arm: (fit.setup.trains, tuple(names[donor.fingerprint] for donor in fit.donors))
            for fit in fits
            if fit.donors
        }

    def trials(self) -> tuple[Fit, ...]:
        """All fits under the shared recipe, seed by seed; donors before those who start from them."""
        return fits_of(self.setups(), self.seeds)

    @property
    def stages(self) -> tuple[tuple[int, ...], ...]:
        """The seeds that are trained up to each look; all of them at once where there are no looks."""
        return tuple(self.seeds[:count] for count in self.looks or (len(self.seeds),))

    def conditions(self, data_digest: str, user_code: str = "") -> str:
        """Identity of all that decides the arms' fits save the seeds, this package's code and the platform.

        The user's own code is a condition like a setup: a registration describes the networks that it makes.
        """
        content: dict[str, object] = {
            "arms": {arm: flatten(setup) for arm, setup in self.setups().items()},
            "data": data_digest,
        }
        designed = {"tuning": to_json(self.tuning), "looks": list(self.looks), "user_code": user_code}
        return hashed(content | {name: told for name, told in designed.items() if told})


def spread_looks(most: int) -> tuple[int, ...]:
    """Three looks, or fewer, at about a third, a half and all of ``most`` seeds: 3, 5 and 10 of ten."""
    return tuple(sorted({max(2, math.ceil(0.3 * most)), max(2, math.ceil(0.5 * most)), most}))


def fits_of(setups: Mapping[str, Setup], seeds: Iterable[int]) -> tuple[Fit, ...]:
    """A fit of every setup under every seed, seed by seed; donors before those who start from them."""
    return with_donors(Fit(arm=arm, setup=setups[arm], seed=seed) for seed in seeds for arm in setups)


def longest_first(fits: Iterable[Fit], multiply_adds: Mapping[str, int]) -> tuple[Fit, ...]:
    """Fits seed by seed, so that a study cut short leaves whole pairs; within a seed, the costliest first.

    A donor counts with the costliest of those who wait for it.
    """
    fits = tuple(fits)
    place = {seed: index for index, seed in enumerate(dict.fromkeys(fit.seed for fit in fits))}
    costs: dict[str, int] = {}
    waiting: dict[str, int] = {}
    for fit in reversed(with_donors(fits)):
        costs[fit.fingerprint] = multiply_adds.get(fit.arm, 0) + waiting.get(fit.fingerprint, 0)
        for donor in fit.donors:
            waiting[donor.fingerprint] = max(waiting.get(donor.fingerprint, 0), costs[fit.fingerprint])
    return tuple(sorted(fits, key=lambda fit: (place[fit.seed], -costs[fit.fingerprint])))


def _is_seed(seed: object) -> bool:
    return isinstance(seed, int) and not isinstance(seed, bool) and 0 <= seed <= LARGEST_SEED
