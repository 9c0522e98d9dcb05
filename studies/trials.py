"""Protocols and studies: what is to be trained, and under which conditions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ablations import Ablation, touches
from lightning_modules.spec import Setup
from lightning_modules.values import InvalidValue, Leaf, edit, flatten, require
from studies.fits import Fit, hashed, with_donors

LARGEST_SEED = 2**32 - 1


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

    Raises:
        InvalidValue: for seeds that repeat or are negative, and for overrides that touch what the ablation varies, or
            would undo what an arm is forced to change.
    """

    name: str
    ablation: Ablation
    protocol: Protocol
    seeds: tuple[int, ...]
    overrides: Mapping[str, Leaf]
    import_paths: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.seeds:
            raise InvalidValue("a study needs at least one seed.")
        if len(set(self.seeds)) != len(self.seeds) or not all(_is_seed(seed) for seed in self.seeds):
            raise InvalidValue(
                f"seeds are {list(self.seeds)}; expected different whole numbers from 0 up to {LARGEST_SEED}."
            )
        self.setups()

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
        names = {fit.fingerprint: fit.arm for fit in self.trials()}
        return {fit.arm: names[fit.donor.fingerprint] for fit in self.trials() if fit.donor}

    def trials(self) -> tuple[Fit, ...]:
        """All fits, seed by seed; donors before those who start from them."""
        setups = self.setups()
        return with_donors(Fit(arm=arm, setup=setups[arm], seed=seed) for seed in self.seeds for arm in setups)

    def conditions(self, data_digest: str, user_code: str = "") -> str:
        """Identity of all that decides the arms' fits save the seeds, this package's code and the platform.

        The user's own code is a condition like a setup: a registration describes the networks that it makes.
        """
        content = {"arms": {arm: flatten(setup) for arm, setup in self.setups().items()}, "data": data_digest}
        return hashed(content | ({"user_code": user_code} if user_code else {}))


def longest_first(fits: Iterable[Fit], multiply_adds: Mapping[str, int]) -> tuple[Fit, ...]:
    """Fits seed by seed, so that a study cut short leaves whole pairs; within a seed, the costliest arm first."""
    fits = tuple(fits)
    place = {seed: index for index, seed in enumerate(dict.fromkeys(fit.seed for fit in fits))}
    return tuple(sorted(fits, key=lambda fit: (place[fit.seed], -multiply_adds[fit.arm])))


def _is_seed(seed: object) -> bool:
    return isinstance(seed, int) and not isinstance(seed, bool) and 0 <= seed <= LARGEST_SEED
