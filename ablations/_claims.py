"""Claims: sentences about an endpoint that could be false. What is registered here is what gets a verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from lightning_modules.values import InvalidValue, check, require

Endpoint = Literal["test_error", "training_error", "trainability", "gradient_norm", "memory", "time"]

ENDPOINT_WORDS: dict[Endpoint, str] = {
    "test_error": "test error",
    "training_error": "training error",
    "trainability": "share of seeds that train",
    "gradient_norm": "gradient norm of the first layer",
    "memory": "peak memory",
    "time": "training time",
}


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What every claim has: an endpoint, and where in the literature it is made (empty: the user's own).

    Attributes:
        caveat: what keeps the two sides from being like for like; shown beside the verdict.
    """

    endpoint: Endpoint = "test_error"
    source: str = ""
    caveat: str = ""

    def __post_init__(self) -> None:
        check(self)
        if len(set(self.arms)) != len(self.arms):
            raise InvalidValue(f"{type(self).__name__} names an arm twice: {', '.join(self.arms)}.")

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms that the claim speaks of."""
        raise TypeError(f"{type(self).__name__} does not say which arms it speaks of.")

    @property
    def sentence(self) -> str:
        """The claim in words, ending in a full stop."""
        raise TypeError(f"{type(self).__name__} does not say what it claims.")

    @property
    def contrasts(self) -> tuple[tuple[str, str], ...]:
        """Pairs ``(over, arm)`` whose differences the verdict reads: their union is the study's family."""
        raise TypeError(f"{type(self).__name__} does not say which differences it reads.")


@dataclass(frozen=True, kw_only=True)
class _Pairwise(Claim):
    arm: str
    over: str

    @property
    def arms(self) -> tuple[str, ...]:
        return (self.arm, self.over)

    @property
    def contrasts(self) -> tuple[tuple[str, str], ...]:
        return ((self.over, self.arm),)


@dataclass(frozen=True, kw_only=True)
class Helps(_Pairwise):
    """``arm`` has the lower endpoint (the higher, for trainability) than ``over``."""

    @property
    def sentence(self) -> str:
        return f"{self.arm} improves on {self.over} in {ENDPOINT_WORDS[self.endpoint]}."


@dataclass(frozen=True, kw_only=True)
class DoesNotHelp(_Pairwise):
    """``arm`` improves on ``over`` by less than the smallest effect of interest.

    Raises:
        InvalidValue: for trainability, of which there is no such effect.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.endpoint != "trainability",
            self,
            "endpoint",
            "another one: a share of seeds has no smallest effect of interest; claim that an arm Helps",
        )

    @property
    def sentence(self) -> str:
        return f"{self.arm} does not improve on {self.over} in {ENDPOINT_WORDS[self.endpoint]}."


@dataclass(frozen=True, kw_only=True)
class HelpsBy(_Pairwise):
    """``arm`` improves on ``over`` by ``by``, give or take ``within`` (the endpoint's own units; points for errors)."""

    by: float
    within: float

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.within > 0, self, "within", "a margin above 0")

    @property
    def sentence(self) -> str:
        return (
            f"{self.arm} improves on {self.over} in {ENDPOINT_WORDS[self.endpoint]} by {self.by:g} ± {self.within:g}."
        )


@dataclass(frozen=True, kw_only=True)
class FallsWith(Claim):
    """The endpoint falls along ``order``, step by step."""

    order: tuple[str, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.order) < 2:
            raise InvalidValue(f"FallsWith needs two arms or more; it names {len(self.order)}.")

    @property
    def arms(self) -> tuple[str, ...]:
        return self.order

    @property
    def sentence(self) -> str:
        return f"{ENDPOINT_WORDS[self.endpoint].capitalize()} falls from {' to '.join(self.order)}."

    @property
    def contrasts(self) -> tuple[tuple[str, str], ...]:
        return tuple(zip(self.order, self.order[1:], strict=False))


@dataclass(frozen=True, kw_only=True)
class SaturatesAt(Claim):
    """Along ``order`` the endpoint improves up to ``arm`` and not beyond; some arm must lie beyond."""

    arm: str
    order: tuple[str, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.arm not in self.order[1:-1]:
            raise InvalidValue(
                f"SaturatesAt.arm is {self.arm!r}; expected an inner arm of its order ({', '.join(self.order)}): "
                "a plateau can be tested only with an arm before it and an arm beyond it."
            )

    @property
    def arms(self) -> tuple[str, ...]:
        return self.order

    @property
    def sentence(self) -> str:
        return (
            f"{ENDPOINT_WORDS[self.endpoint].capitalize()} stops falling at {self.arm} along {', '.join(self.order)}."
        )

    @property
    def contrasts(self) -> tuple[tuple[str, str], ...]:
        place = self.order.index(self.arm)
        before = tuple((earlier, self.arm) for earlier in self.order[:place])
        return before + tuple((self.arm, deeper) for deeper in self.order[place + 1 :])


@dataclass(frozen=True, kw_only=True)
class Reverses(Claim):
    """From ``worse[0]`` to ``worse[1]`` the endpoint gets worse, from ``better[0]`` to ``better[1]`` it gets better."""

    worse: tuple[str, str]
    better: tuple[str, str]

    @property
    def arms(self) -> tuple[str, ...]:
        return self.worse + self.better

    @property
    def sentence(self) -> str:
        return (
            f"{self.worse[1]} is worse than {self.worse[0]} in {ENDPOINT_WORDS[self.endpoint]}, "
            f"and {self.better[1]} is better than {self.better[0]}."
        )

    @property
    def contrasts(self) -> tuple[tuple[str, str], ...]:
        return (self.worse, self.better)


@dataclass(frozen=True, kw_only=True)
class AllOf(Claim):
    """Every one of ``parts`` holds."""

    parts: tuple[Helps | DoesNotHelp | HelpsBy, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        require(len(self.parts) >= 2, self, "parts", "two claims or more")

    @property
    def arms(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(arm for part in self.parts for arm in part.arms))

    @property
    def sentence(self) -> str:
        return " And: ".join(part.sentence for part in self.parts)

    @property
    def contrasts(self) -> tuple[tuple[str, str], ...]:
        return tuple(contrast for part in self.parts for contrast in part.contrasts)


CLAIM_KINDS: dict[str, type[Claim]] = {
    kind.__name__: kind for kind in (Helps, DoesNotHelp, HelpsBy, FallsWith, SaturatesAt, Reverses, AllOf)
}
ENDPOINTS: tuple[Endpoint, ...] = get_args(Endpoint)
