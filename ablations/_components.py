"""Components of a generated design, and the two arms that each of them is measured between."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ablations._claims import Claim, DoesNotHelp, Endpoint, Helps
from ablations._errors import InvalidAblation
from ablations._fields import require_type
from lightning_modules.specs.notebook_html import describe_object, describe_settings

DesignKind = Literal["leave-one-out", "add-one", "step-by-step"]


@dataclass(frozen=True)
class Component:
    """One part of a recipe or network, and what is claimed of it.

    Attributes:
        name: of the component: ``dropout``.
        edits: dotted paths with their new values, as of an ``Arm``: what leaves the component out (``LeaveOneOut``),
            adds it (``AddOne``), or takes this step (``StepByStep``).
        helps: whether it is expected to improve the design's endpoint; otherwise the claim is that it does not.
        source: where in the literature that is claimed.
        caveat: why the two arms are not like for like, if they are not.

    Raises:
        InvalidAblation: for a component without a name or without edits, and for a field of another type.
    """

    name: str
    edits: Mapping[str, object]
    helps: bool = True
    source: str = ""
    caveat: str = ""

    def __post_init__(self) -> None:
        require_type(self.name, str, "name", "text, the name of a component")
        if not self.name.strip():
            raise InvalidAblation("a component needs a name.")
        require_type(self.edits, Mapping, "edits", f"a mapping from paths to values, of component {self.name!r}")
        # Any text is true to Python: helps="no" would claim the opposite.
        require_type(self.helps, bool, "helps", f"True or False, of component {self.name!r}")
        if not self.edits:
            raise InvalidAblation(f"component {self.name!r} has no edits; expected paths with their values.")

    def __repr__(self) -> str:
        return describe_object(self, f"{self.name}: {describe_settings(self.edits)}")


@dataclass(frozen=True, kw_only=True)
class ComponentContrast:
    """A component, and the two arms that differ in it alone.

    Attributes:
        over: the arm without the component.
        arm: the arm with it.
    """

    component: str
    over: str
    arm: str

    def make_claim(self, component: Component, endpoint: Endpoint) -> Claim:
        """Claim that the component improves the endpoint, or that it does not, as its declaration expects."""
        claim_class = Helps if component.helps else DoesNotHelp
        return claim_class(
            arm=self.arm, over=self.over, endpoint=endpoint, source=component.source, caveat=component.caveat
        )


@dataclass(frozen=True, kw_only=True)
class ComponentDesign:
    """A generated design: what a report shows component by component.

    Attributes:
        endpoint: the error that the components are expected to reduce.
        contrasts: in the order of the declaration; of a step-by-step design each begins where the one before ended.
    """

    kind: DesignKind
    endpoint: Endpoint
    contrasts: tuple[ComponentContrast, ...]

    def __repr__(self) -> str:
        return describe_object(self, f"{self.title}, {len(self.contrasts)} components")

    @property
    def title(self) -> str:
        """The design and where it starts: ``Step by step from VGG-D to residual``."""
        first, last = self.contrasts[0], self.contrasts[-1]
        if self.kind == "step-by-step":
            return f"Step by step from {first.over} to {last.arm}"
        if self.kind == "leave-one-out":
            return f"Leave one out of {first.arm}"
        return f"Add one to {first.over}"

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms of all contrasts, each once."""
        names: dict[str, None] = {}  # an ordered set
        for contrast in self.contrasts:
            names |= dict.fromkeys((contrast.over, contrast.arm))
        return tuple(names)
