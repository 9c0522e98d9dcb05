"""Designs that generate an ablation from its components: arms, contract and claims.

``LeaveOneOut`` takes each component out of a full setup, ``AddOne`` adds each one to a base setup, and ``StepByStep``
leads from one setup to another, one component at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations, pairwise

from ablations._arms import DIGITS_SETUP, REPRESENTATIVE_SETUPS, Arm, paths_left_to_protocol
from ablations._claims import ERROR_ENDPOINTS, Claim, Endpoint, Helps
from ablations._components import Component, ComponentContrast, ComponentDesign, DesignKind
from ablations._conditional import CONDITIONAL_VALUES, Times, is_multiple
from ablations._contract import Ablation
from ablations._differences import Difference, compare_setups
from ablations._errors import InvalidAblation
from ablations._fields import require_type, tuple_of
from ablations._paths import is_below, is_within
from lightning_modules.specs.errors import InvalidValue
from lightning_modules.specs.setup import Setup
from lightning_modules.specs.values import same_leaf


@dataclass(frozen=True, kw_only=True, repr=False)
class _GeneratedAblation(Ablation):
    """An ablation whose baseline, arms, contract and claims follow from components.

    Attributes:
        endpoint: the error that the components are expected to reduce.
        claims: besides the generated ones, which come first.
    """

    endpoint: Endpoint = "test_error"
    # What a hand-written ablation declares is generated here.
    baseline: Arm = field(init=False)
    arms: tuple[Arm, ...] = field(init=False)
    varies: tuple[str, ...] = field(init=False)
    design: ComponentDesign | None = field(init=False, default=None)

    def _generate(
        self,
        kind: DesignKind,
        arms: Sequence[Arm],
        components: Sequence[Component],
        contrasts: Sequence[ComponentContrast],
    ) -> None:
        """Set the fields of the ablation; the first arm is the baseline."""
        if self.endpoint not in ERROR_ENDPOINTS:
            raise InvalidAblation(
                f"`endpoint` is {self.endpoint!r}; expected one of {', '.join(map(repr, ERROR_ENDPOINTS))}. Declare "
                "claims on other endpoints in `claims`."
            )
        self._set(baseline=arms[0], arms=tuple(arms[1:]), varies=_outermost_paths(components))
        self._require_distinct_names()  # before the claims: these would name an arm twice
        claims: list[Claim] = []
        for contrast, component in zip(contrasts, components, strict=True):
            claims.append(contrast.make_claim(component, self.endpoint))
        if kind == "step-by-step" and len(components) > 1:
            claims.append(Helps(arm=arms[-1].name, over=arms[0].name, endpoint=self.endpoint))
        claims += [claim for claim in tuple_of(self.claims, Claim, "claims") if claim not in claims]
        design = ComponentDesign(kind=kind, endpoint=self.endpoint, contrasts=tuple(contrasts))
        self._set(claims=tuple(claims), design=design)

    def _generate_from_origin(self, kind: DesignKind, origin: Arm, given: object) -> None:
        """Set the fields of an ablation whose every arm differs from one origin, the baseline, by one component."""
        require_type(origin, Arm, "full" if kind == "leave-one-out" else "base", "an Arm")
        components = _require_components(given, "components")
        self._set(components=components)
        leaves_out = kind == "leave-one-out"
        arms, contrasts = [origin], []
        for component in components:
            arm = _edit_arm(origin, component, f"{'without' if leaves_out else 'with'} {component.name}")
            arms.append(arm)
            # In either design the arm with the component is held against the one without it.
            over, improved = (arm, origin) if leaves_out else (origin, arm)
            contrasts.append(ComponentContrast(component=component.name, over=over.name, arm=improved.name))
        _require_separate(origin, arms[1:], components)
        self._generate(kind, arms, components, contrasts)

    def _set(self, **fields: object) -> None:
        for name, value in fields.items():
            object.__setattr__(self, name, value)  # the class is frozen


@dataclass(frozen=True, kw_only=True, repr=False)
class LeaveOneOut(_GeneratedAblation):
    """What does each component contribute to the whole? Arms: the full setup, and it without each component.

    Attributes:
        full: the baseline, with all components.
        components: each with the edits that leave it out of ``full``. The arm without ``dropout`` is named ``without
            dropout``; the claim is that ``full`` improves on it.

    Raises:
        InvalidAblation: for two components of one name, a component that changes nothing, and two that change the same
            setting.
    """

    full: Arm
    components: tuple[Component, ...]

    def __post_init__(self) -> None:
        self._generate_from_origin("leave-one-out", self.full, self.components)
        super().__post_init__()


@dataclass(frozen=True, kw_only=True, repr=False)
class AddOne(_GeneratedAblation):
    """What does each component bring on its own? Arms: the base setup, and it with each component.

    Attributes:
        base: the baseline, without any of the components.
        components: each with the edits that add it to ``base``. The arm with ``dropout`` is named ``with dropout``; the
            claim is that it improves on ``base``.

    Raises:
        InvalidAblation: for two components of one name, a component that changes nothing, and two that change the same
            setting.
    """

    base: Arm
    components: tuple[Component, ...]

    def __post_init__(self) -> None:
        self._generate_from_origin("add-one", self.base, self.components)
        super().__post_init__()


@dataclass(frozen=True, kw_only=True, repr=False)
class StepByStep(_GeneratedAblation):
    """What does each step contribute on the way from one setup to another? Arms: the setup after each step.

    What a step contributes depends on the steps before it: another order may give another answer.

    Attributes:
        base: the baseline, where the way starts.
        target: where it ends. Its name is that of the last arm; the arms between are named ``batch norm (step 1)``.
        steps: in order, each with the edits that lead from the setup before it to its own. By default, one per path
            that ``target`` sets to another value than ``base``, in their order: the way from a default recipe to a
            tuned one. The claims are that each step improves on the one before, and ``target`` on ``base``.

    Raises:
        InvalidAblation: for two steps of one name, a step that changes nothing, a step that changes again what an
            earlier one has changed, equal setups, and steps that do not lead to ``target``.
    """

    base: Arm
    target: Arm
    steps: tuple[Component, ...] = ()

    def __post_init__(self) -> None:
        require_type(self.base, Arm, "base", "an Arm")
        require_type(self.target, Arm, "target", "an Arm")
        _require_different(self.base, self.target)
        steps = _require_components(self.steps or _steps_between(self.base, self.target), "steps")
        self._set(steps=steps)
        arms = [self.base]
        for number, step in enumerate(steps, start=1):
            name = self.target.name if number == len(steps) else f"{step.name} (step {number})"
            arms.append(_edit_arm(arms[-1], step, name))
        _require_lasting_steps(arms, steps)
        _require_arrival(arms[-1], self.target)
        contrasts = []
        for step, (before, after) in zip(steps, pairwise(arms), strict=True):
            contrasts.append(ComponentContrast(component=step.name, over=before.name, arm=after.name))
        self._generate("step-by-step", arms, steps, contrasts)
        super().__post_init__()


def _edit_arm(arm: Arm, component: Component, name: str) -> Arm:
    """Add a component's edits to an arm's own, which give way where the component sets the same path.

    Where it multiplies there (``Times``), it multiplies the arm's value, not the protocol's.
    """
    kept = {}
    for path, value in arm.edits.items():
        if not any(is_within(path, edited_path) for edited_path in component.edits):
            kept[path] = value
    try:
        edits = {path: _relative_to(arm, path, value) for path, value in component.edits.items()}
        return Arm(name, {**kept, **edits})
    except InvalidValue as error:  # an unknown path is one, too
        raise type(error)(f"component {component.name!r}: {error}") from None


def _relative_to(arm: Arm, path: str, value: object) -> object:
    """The value of a component's edit; a multiple of the arm's own value at the path, if it has one, is the product.

    Raises:
        InvalidValue: where the two depend on the resolution or the data in a way that has no product.
    """
    if path not in arm.edits:
        return value
    own = arm.edits[path]
    if isinstance(value, Times) and not isinstance(own, CONDITIONAL_VALUES):
        return value.multiply(own, path)
    if is_multiple(value):
        raise InvalidValue(
            f"{path} is multiplied ({value!r}), but is {own!r} in arm {arm.name!r}; expected the values themselves."
        )
    return value


def _steps_between(base: Arm, target: Arm) -> tuple[Component, ...]:
    """A step per path that the target sets to another value than the base, named by the path's last part if it can.

    Raises:
        InvalidAblation: where the target multiplies what the base sets: a step would multiply the base's value, while
            the target multiplies the protocol's.
    """
    edits = {path: value for path, value in target.edits.items() if not _sets_alike(base, path, value)}
    for path, value in edits.items():
        if path in base.edits and is_multiple(value):
            raise InvalidAblation(
                f"target {target.name!r} multiplies {path} ({value!r}), which base {base.name!r} sets as well; "
                "expected the value itself, or `steps`."
            )
    names = [path.rpartition(".")[2].replace("_", " ") for path in edits]
    steps = []
    for name, (path, value) in zip(names, edits.items(), strict=True):
        # Another network takes the place of all below it: what both ends set there is set again.
        kept = {below: own for below, own in base.edits.items() if is_below(below, path) and below in target.edits}
        steps.append(Component(name if names.count(name) == 1 else path, {path: value, **kept}))
    return tuple(steps)


def _sets_alike(arm: Arm, path: str, value: object) -> bool:
    """Whether an arm sets a path to a value; 1 and 1.0 are two values of an argument, and one of a recipe's field."""
    own = arm.edits.get(path)
    return same_leaf(own, value) if ".init_args." in path else own == value


def _outermost_paths(components: Sequence[Component]) -> tuple[str, ...]:
    """The paths of all edits, without those that lie below another one."""
    paths = list(dict.fromkeys(path for component in components for path in component.edits))
    return tuple(path for path in paths if not any(path != other and is_within(path, other) for other in paths))


def _require_components(given: object, name: str) -> tuple[Component, ...]:
    """Check the type and the names of components; a single one becomes a tuple."""
    items = (given,) if isinstance(given, Component) else given
    if not isinstance(items, (tuple, list)) or not items or not all(isinstance(item, Component) for item in items):
        raise InvalidAblation(f"`{name}` is {given!r}; expected a tuple of Component objects, one or more.")
    names = [component.name for component in items]
    repeated = sorted({repr(item) for item in names if names.count(item) > 1})
    if repeated:
        raise InvalidAblation(f"two of the {name} are named {', '.join(repeated)}; each needs a name of its own.")
    return tuple(items)


def _changed_leaves(before: Arm, after: Arm, setup: Setup) -> tuple[Difference, ...]:
    return compare_setups(before.apply(setup), after.apply(setup))


def _representative_conditions(arms: Sequence[Arm]) -> Iterator[tuple[Setup, str]]:
    """The setups that the contract is verified on, with their conditions in words where a value depends on them."""
    values = [value for arm in arms for value in arm.edits.values()]
    is_conditional = any(isinstance(value, CONDITIONAL_VALUES) for value in values)
    for setup in REPRESENTATIVE_SETUPS:
        data = ", on digits" if setup == DIGITS_SETUP else ""
        yield setup, f" (at {setup.scale.resolution} pixels{data})" if is_conditional else ""


def _require_change(
    changed: Sequence[Difference], component: Component, before: Arm, after: Arm, conditions: str
) -> None:
    # What the protocol decides is verified for each study.
    if not changed and not paths_left_to_protocol(before, after):
        settings = ", ".join(f"{path}={value}" for path, value in component.edits.items())
        raise InvalidAblation(
            f"component {component.name!r} changes nothing: {before.name!r} has {settings} already{conditions}. Leave "
            f"it out, or set another value in {before.name!r}."
        )


def _require_separate(origin: Arm, arms: Sequence[Arm], components: Sequence[Component]) -> None:
    """Check that each component changes something of the origin, and no two the same setting."""
    for setup, conditions in _representative_conditions((origin, *arms)):
        changes = []
        for arm, component in zip(arms, components, strict=True):
            changed = _changed_leaves(origin, arm, setup)
            _require_change(changed, component, origin, arm, conditions)
            changes.append([*(change.path for change in changed), *paths_left_to_protocol(origin, arm)])
        for (first, first_paths), (second, second_paths) in combinations(zip(components, changes, strict=True), 2):
            shared = [path for path in first_paths if path in second_paths]
            if shared:
                raise InvalidAblation(
                    f"components {first.name!r} and {second.name!r} both change {shared[0]}{conditions}: they are "
                    "alternatives, not parts of one whole. Declare one of them, or both as arms of an Ablation."
                )


def _require_lasting_steps(arms: Sequence[Arm], steps: Sequence[Component]) -> None:
    """Check that each step changes something, and gives no setting another value than an earlier step did."""
    for setup, conditions in _representative_conditions(arms):
        changed_by: dict[str, str] = {}  # the step that changed each leaf
        for (before, after), step in zip(pairwise(arms), steps, strict=True):
            changed = _changed_leaves(before, after, setup)
            _require_change(changed, step, before, after, conditions)
            for change in changed:
                if change.before is None or change.after is None:
                    continue  # settings come and go with the network that has them
                if change.path in changed_by:
                    raise InvalidAblation(
                        f"steps {changed_by[change.path]!r} and {step.name!r} both change {change.path}{conditions}: "
                        "the second replaces what the first is measured for. Let one step change it."
                    )
                changed_by[change.path] = step.name
            changed_by |= dict.fromkeys(paths_left_to_protocol(before, after), step.name)


def _require_different(base: Arm, target: Arm) -> None:
    if paths_left_to_protocol(base, target):
        return
    for setup, conditions in _representative_conditions((base, target)):
        if not _changed_leaves(base, target, setup):
            raise InvalidAblation(
                f"base {base.name!r} and target {target.name!r} are the same setup{conditions}: there is no step "
                "between them."
            )


def _require_arrival(last: Arm, target: Arm) -> None:
    """Check that the last step arrives at the target."""
    for setup, conditions in _representative_conditions((last, target)):
        for change in compare_setups(last.apply(setup), target.apply(setup)):
            raise InvalidAblation(
                f"the steps do not lead to target {target.name!r}: after the last one {change.path} is "
                f"{change.before}, and in the target {change.after}{conditions}. Add a step that changes it, or set it "
                "in the target."
            )
    for path in paths_left_to_protocol(last, target):
        sets, leaves = ("the last step", "the target") if path in last.edits else ("the target", "the last step")
        raise InvalidAblation(
            f"the steps do not lead to target {target.name!r}: {sets} has a value of {path}, and {leaves} has the "
            "protocol's. Set it in both, or in neither."
        )
