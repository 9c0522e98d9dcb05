"""Claims: falsifiable statements about an endpoint, declared before a study and given a verdict by its report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import chain
from typing import Literal, Self, get_args

from lightning_modules.specs.errors import InvalidValue
from lightning_modules.specs.notebook_html import describe_object, render_line, render_view
from lightning_modules.specs.values import check_fields, require_field

Endpoint = Literal[
    "test_error", "balanced_error", "training_error", "trainability", "gradient_norm", "memory", "time", "latency"
]
ENDPOINTS: tuple[Endpoint, ...] = get_args(Endpoint)
ERROR_ENDPOINTS: tuple[Endpoint, ...] = ("test_error", "balanced_error", "training_error")  # in percentage points

MAX_LISTED_ARMS = 8  # that a sentence can name one by one

ENDPOINT_LABELS: dict[Endpoint, str] = {
    "test_error": "test error",
    "balanced_error": "balanced test error",
    "training_error": "training error",
    "trainability": "share of seeds that train",
    "gradient_norm": "gradient norm of the first layer",
    "memory": "peak memory",
    "time": "training time",
    "latency": "latency at batch size 1 (P50)",  # of an arm's network, measured by `ablate latency`
}


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric of results that were measured elsewhere: no trial of a study has it.

    Attributes:
        name: as in the table of results: ``accuracy``.
        higher_is_better: whether a rise is an improvement.
    """

    name: str
    higher_is_better: bool = False


def endpoint_label(endpoint: Endpoint | Metric) -> str:
    """The endpoint as a sentence names it."""
    return endpoint.name if isinstance(endpoint, Metric) else ENDPOINT_LABELS[endpoint]


def capitalize_first(text: str) -> str:
    """Capitalize the first letter, unless the first word has capitals of its own: ``mIoU`` stays as it is."""
    return text[:1].upper() + text[1:] if text.partition(" ")[0].islower() else text


def change_verbs(endpoint: Endpoint | Metric) -> tuple[str, str]:
    """Verbs for a change for the better and one for the worse: ``("falls", "rises")`` for errors and costs."""
    is_rise_better = isinstance(endpoint, Metric) and endpoint.higher_is_better
    return ("rises", "falls") if is_rise_better else ("falls", "rises")


@dataclass(frozen=True)
class Caveat:
    """A caveat that holds at some resolutions only; a study registers its text where it holds.

    Attributes:
        text: ``{resolution}`` stands for the side of the study's images, in pixels.
        holds_at: whether it holds at a resolution, in pixels.
    """

    text: str
    holds_at: Callable[[int], bool]

    def __repr__(self) -> str:
        return describe_object(self, self.text)

    def resolve(self, resolution: int) -> str:
        """The caveat at a resolution; empty where it does not hold."""
        return self.text.format(resolution=resolution) if self.holds_at(resolution) else ""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """Base class of all claims.

    Attributes:
        endpoint: the metric that the claim is about.
        source: where in the literature it is made; empty for the user's own.
        caveat: why its two sides are not like for like, if they are not; shown beside the verdict. A :class:`Caveat`
            depends on the resolution; of a registered claim it is a text.
    """

    endpoint: Endpoint | Metric = "test_error"
    source: str = ""
    caveat: str | Caveat = ""

    def __post_init__(self) -> None:
        check_fields(self)
        if len(set(self.arms)) != len(self.arms):
            raise InvalidValue(f"{type(self).__name__} names an arm twice: {', '.join(self.arms)}.")

    def at_resolution(self, resolution: int) -> Self:
        """The claim with its caveat as a text, at a study's resolution in pixels."""
        return replace(self, caveat=self.caveat.resolve(resolution)) if isinstance(self.caveat, Caveat) else self

    @property
    def arms(self) -> tuple[str, ...]:
        """Names of the arms that the claim is about."""
        raise TypeError(f"{type(self).__name__} must define the property `arms`.")

    @property
    def sentence(self) -> str:
        """The claim in words, ending in a full stop."""
        raise TypeError(f"{type(self).__name__} must define the property `sentence`.")

    @property
    def contrasts(self) -> tuple[tuple[str, str], ...]:
        """Pairs ``(over, arm)`` of arms whose difference decides the verdict.

        The union over all claims is the study's family, over which the confidence level is simultaneous.
        """
        raise TypeError(f"{type(self).__name__} must define the property `contrasts`.")

    @property
    def trends(self) -> tuple[tuple[str, ...], ...]:
        """Orders of arms along which the fitted change decides the verdict; it joins the study's family."""
        return ()

    @property
    def conjuncts(self) -> tuple[Claim, ...]:
        """The claims that this one combines; any claim but a conjunction is its own only one."""
        return (self,)

    @property
    def endpoints(self) -> tuple[Endpoint | Metric, ...]:
        """The endpoints that the claim reads, each once, in order."""
        return tuple(dict.fromkeys(conjunct.endpoint for conjunct in self.conjuncts))

    def __repr__(self) -> str:
        return describe_object(self, f"claim: {self.sentence}")

    def _repr_html_(self) -> str:
        source = f"Source: {self.source}" if self.source else ""
        caveat = self.caveat.text if isinstance(self.caveat, Caveat) else self.caveat
        return render_view(self.sentence, render_line(source, quiet=True), render_line(caveat, quiet=True))


@dataclass(frozen=True, kw_only=True, repr=False)
class _PairwiseClaim(Claim):
    arm: str
    over: str

    @property
    def arms(self) -> tuple[str, ...]:
        return (self.arm, self.over)

    @property
    def contrasts(self) -> tuple[tuple[str, str], ...]:
        return ((self.over, self.arm),)


@dataclass(frozen=True, kw_only=True, repr=False)
class Helps(_PairwiseClaim):
    """``arm`` has the lower endpoint than ``over``; the higher, for trainability and where a rise is better."""

    @property
    def sentence(self) -> str:
        if self.endpoint == "gradient_norm":  # which measures a mechanism: a lower one is no improvement
            return f"{self.arm} has a lower {endpoint_label(self.endpoint)} than {self.over}."
        return f"{self.arm} improves on {self.over} in {endpoint_label(self.endpoint)}."


def _require_smallest_effect(claim: Claim) -> None:
    """Check that the endpoint has a smallest effect of interest, by which a claim's margins are read.

    Raises:
        InvalidValue: for trainability.
    """
    require_field(
        claim.endpoint != "trainability",
        claim,
        "endpoint",
        "another endpoint: a share of seeds has no smallest effect of interest; claim that an arm Helps",
    )


@dataclass(frozen=True, kw_only=True, repr=False)
class DoesNotHelp(_PairwiseClaim):
    """``arm`` improves on ``over`` by less than the smallest effect of interest.

    Raises:
        InvalidValue: for trainability, which has no smallest effect of interest.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_smallest_effect(self)

    @property
    def sentence(self) -> str:
        if self.endpoint == "gradient_norm":
            return f"{self.arm} does not have a lower {endpoint_label(self.endpoint)} than {self.over}."
        return f"{self.arm} does not improve on {self.over} in {endpoint_label(self.endpoint)}."


@dataclass(frozen=True, kw_only=True, repr=False)
class HelpsBy(_PairwiseClaim):
    """``arm`` improves on ``over`` by ``by`` ± ``within``.

    Both are in the endpoint's unit: percentage points for errors.
    """

    by: float
    within: float

    def __post_init__(self) -> None:
        super().__post_init__()
        require_field(self.within > 0, self, "within", "a margin above 0")

    @property
    def sentence(self) -> str:
        return (
            f"{self.arm} improves on {self.over} in {endpoint_label(self.endpoint)} by {self.by:g} ± {self.within:g}."
        )


@dataclass(frozen=True, kw_only=True, repr=False)
class FallsWith(Claim):
    """The endpoint falls with every step along ``order`` (rises, where a rise is better)."""

    order: tuple[str, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.order) < 2:
            raise InvalidValue(f"FallsWith.order has {len(self.order)} arms; expected two or more.")

    @property
    def arms(self) -> tuple[str, ...]:
        return self.order

    @property
    def sentence(self) -> str:
        label, num_steps = capitalize_first(endpoint_label(self.endpoint)), len(self.order) - 1
        verb, _ = change_verbs(self.endpoint)
        if len(self.order) > MAX_LISTED_ARMS:
            return f"{label} {verb} with each of the {num_steps} steps from {self.order[0]} to {self.order[-1]}."
        return f"{label} {verb} from {' to '.join(self.order)}."

    @property
    def contrasts(self) -> tuple[tuple[str, str], ...]:
        return tuple(zip(self.order, self.order[1:], strict=False))

    @property
    def trends(self) -> tuple[tuple[str, ...], ...]:
        return (self.order,)


@dataclass(frozen=True, kw_only=True, repr=False)
class SaturatesAt(Claim):
    """The endpoint falls along ``order`` (rises, where a rise is better) up to ``arm`` and is level beyond it.

    Raises:
        InvalidValue: if ``arm`` is not an inner arm of ``order``, and for trainability, which has no smallest effect of
            interest.
    """

    arm: str
    order: tuple[str, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_smallest_effect(self)
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
        arms = ", ".join(self.order)
        if len(self.order) > MAX_LISTED_ARMS:
            arms = f"the {len(self.order)} arms from {self.order[0]} to {self.order[-1]}"
        label, (verb, _) = capitalize_first(endpoint_label(self.endpoint)), change_verbs(self.endpoint)
        return f"{label} {verb} up to {self.arm} and is level beyond it, along {arms}."

    @property
    def contrasts(self) -> tuple[tuple[str, str], ...]:
        # Every other arm is compared with the one where the plateau begins.
        index = self.order.index(self.arm)
        up_to_plateau = [(earlier, self.arm) for earlier in self.order[:index]]
        beyond_plateau = [(self.arm, later) for later in self.order[index + 1 :]]
        return (*up_to_plateau, *beyond_plateau)


@dataclass(frozen=True, kw_only=True, repr=False)
class Reverses(Claim):
    """One step makes the endpoint worse, and another step, such as the same one with shortcuts, makes it better.

    Attributes:
        worse: the two arms of the first step, from and to.
        better: the two arms of the second step.
    """

    worse: tuple[str, str]
    better: tuple[str, str]

    @property
    def arms(self) -> tuple[str, ...]:
        return self.worse + self.better

    @property
    def sentence(self) -> str:
        return (
            f"{self.worse[1]} is worse than {self.worse[0]} in {endpoint_label(self.endpoint)}, "
            f"and {self.better[1]} is better than {self.better[0]}."
        )

    @property
    def contrasts(self) -> tuple[tuple[str, str], ...]:
        return (self.worse, self.better)


@dataclass(frozen=True, kw_only=True, repr=False)
class AllOf(Claim):
    """All of several pairwise claims hold."""

    parts: tuple[Helps | DoesNotHelp | HelpsBy, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        require_field(len(self.parts) >= 2, self, "parts", "two claims or more")

    def at_resolution(self, resolution: int) -> Self:
        """The conjunction with its own caveat and those of its parts as texts."""
        parts = tuple(part.at_resolution(resolution) for part in self.parts)
        return replace(super().at_resolution(resolution), parts=parts)

    @property
    def arms(self) -> tuple[str, ...]:
        arms: dict[str, None] = {}  # an ordered set: parts may share arms
        for claim in self.parts:
            arms |= dict.fromkeys(claim.arms)
        return tuple(arms)

    @property
    def sentence(self) -> str:
        sentences = [claim.sentence for claim in self.parts]
        if len(sentences) > MAX_LISTED_ARMS:
            return f"All {len(sentences)} hold, from: {sentences[0]} To: {sentences[-1]}"
        return " And: ".join(sentences)

    @property
    def contrasts(self) -> tuple[tuple[str, str], ...]:
        return tuple(chain.from_iterable(claim.contrasts for claim in self.parts))

    @property
    def conjuncts(self) -> tuple[Claim, ...]:
        return self.parts


# By class name, which is how a recorded study names its claims.
CLAIM_CLASSES: dict[str, type[Claim]] = {
    claim_class.__name__: claim_class
    for claim_class in (Helps, DoesNotHelp, HelpsBy, FallsWith, SaturatesAt, Reverses, AllOf)
}
