"""The ablation and its one-change contract.

The contract: every arm's setup equals the baseline's, except at and below the paths that the ablation declares. Those
in ``varies`` are the subject of its question; those in ``forced`` cannot be held equal while the subject varies. No
two arms are equal.

The contract is verified when an ablation is declared, under all conditions that an arm's values may depend on, and
again for the setups of each study, whatever protocol and overrides they come from. Whether the instantiated networks
differ as declared is verified by ``studies.design.verification``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import NoneType
from typing import ClassVar

from ablations._arms import (
    DEFAULT_SETUP,
    DIGITS_SETUP,
    REDRAW_PATHS,
    REPRESENTATIVE_SETUPS,
    Arm,
    Placebo,
    require_different,
)
from ablations._claims import Claim
from ablations._components import ComponentDesign
from ablations._conditional import CONDITIONAL_VALUES, ByResolution
from ablations._differences import compare_setups, summarize_differences
from ablations._errors import InvalidAblation, NotASingleChange
from ablations._factorial import Factorial
from ablations._fields import (
    require_measured_endpoints,
    require_property,
    require_question,
    require_reasons,
    require_type,
    tuple_of,
)
from ablations._paths import is_within, paths_overlap
from ablations._property_contrast import Property
from ablations._reference import Reference
from ablations._replications import Replication
from lightning_modules.specs.errors import did_you_mean
from lightning_modules.specs.notebook_html import describe_object, render_line, render_list, render_table, render_view
from lightning_modules.specs.setup import Setup
from lightning_modules.specs.values import Leaf, edit_field, edit_fields, flatten_fields

MAX_LISTED_PATHS = 2  # that leave room for the names of the arms in one line


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """A question, the arms that answer it, the paths in which they may differ, and the claims under test.

    Attributes:
        question: one sentence; by convention the docstring of the ablation's file.
        baseline: the arm that the others are compared with.
        arms: the other arms, one or more; a ``Placebo`` among them is a control.
        varies: dotted paths; an arm may differ from the baseline at and below these.
        claims: what gets a verdict.
        forced: further paths in which an arm may differ, each with the reason why it cannot be held equal; reports
            print the reasons.
        property_studied: the measured property that is the ablation's subject, if any. It may change; a contrast is
            unconfounded if no other property changes by more than 5%.
        factorial: the two factors that the arms cross, if any; reports then show main effects and the interaction.
        design: what a generated ablation (``LeaveOneOut`` and its like) measures, component by component.
        reference: published figures, if any; they may depend on the resolution.
        replications: figures of public replications, if any; they may depend on the resolution.

    Raises:
        NotASingleChange: naming every stray change with both values.
        InvalidAblation: if a field has a value of another type, if two arms are equal or share a name, if a claim or
            figure names an unknown arm or endpoint, or if ``varies`` or ``forced`` names no setting.
    """

    question: str
    baseline: Arm
    arms: tuple[Arm, ...]
    varies: tuple[str, ...]
    claims: tuple[Claim, ...] = ()
    forced: Mapping[str, str] = field(default_factory=dict)
    property_studied: Property | None = None
    factorial: Factorial | None = None
    design: ComponentDesign | None = None
    reference: Reference | ByResolution[Reference | None] | None = None
    replications: tuple[Replication, ...] | ByResolution[tuple[Replication, ...]] = ()

    fewest_arms: ClassVar[int] = 1  # besides the baseline

    def __post_init__(self) -> None:
        self._check_types()
        arms = [arm.of_baseline(self.baseline) if isinstance(arm, Placebo) else arm for arm in self.arms]
        object.__setattr__(self, "arms", tuple(arms))
        if len(self.arms) < self.fewest_arms:
            raise InvalidAblation("an ablation needs at least one arm besides its baseline.")
        self._require_distinct_names()
        self._require_known_arms()
        require_measured_endpoints(self.claims)
        self._require_known_paths()
        self._verify_representative_setups()

    def _check_types(self) -> None:
        """Check the fields as given, and make tuples of a single arm, path, claim or replication."""
        require_question(self.question)
        require_type(self.baseline, Arm, "baseline", "an Arm")
        require_reasons(self.forced)
        require_property(self.property_studied)
        require_type(self.factorial, (Factorial, NoneType), "factorial", "None or a Factorial")
        require_type(self.design, (ComponentDesign, NoneType), "design", "None, or what a generated ablation sets")
        require_type(self.reference, (Reference, ByResolution, NoneType), "reference", "None or a Reference")
        item_types: dict[str, type] = {"arms": Arm, "varies": str, "claims": Claim, "replications": Replication}
        for name, item_type in item_types.items():
            value = getattr(self, name)
            if name == "replications" and isinstance(value, ByResolution):
                for branch in (value.small, value.large):
                    tuple_of(branch, item_type, name)
            else:
                object.__setattr__(self, name, tuple_of(value, item_type, name))  # the class is frozen

    def __repr__(self) -> str:
        names = [f"{self.baseline.name} (baseline)", *(arm.name for arm in self.arms)]
        varied = ", ".join(self.varies) if len(self.varies) <= MAX_LISTED_PATHS else f"{len(self.varies)} settings"
        return describe_object(self, f"of {varied} in {len(names)} arms: {', '.join(names)}")

    def _repr_html_(self) -> str:
        setups = self._representative_setups(DEFAULT_SETUP)
        rows = [(self.baseline.name, "baseline")]
        for arm in self.arms:
            changes = summarize_differences(compare_setups(setups[self.baseline.name], setups[arm.name]))
            rows.append((arm.name, "; ".join(changes)))
        claims = [claim.sentence for claim in self.claims]
        return render_view(
            self.question.strip(),
            render_table(("arm", "changes from the baseline"), rows),
            render_line(f"May vary: {', '.join(self.varies)}."),
            render_list(f"Forced: {path}: {reason}" for path, reason in self.forced.items()),
            render_line("Claims:" if claims else ""),
            render_list(claims),
        )

    @property
    def all_arms(self) -> tuple[Arm, ...]:
        """The baseline, then the other arms."""
        return (self.baseline, *self.arms)

    @property
    def placebos(self) -> tuple[str, ...]:
        """Names of the arms that are controls."""
        return tuple(arm.name for arm in self.arms if isinstance(arm, Placebo))

    def select_arms(self, names: Sequence[str]) -> ArmSelection:
        """Select some arms, one at least, in the order of the ablation; without claims and published figures.

        Raises:
            InvalidAblation: for a name that is not an arm's, and a placebo without the baseline, whose control it is.
        """
        known = [arm.name for arm in self.all_arms]
        for name in names:
            if name not in known:
                raise InvalidAblation(
                    f"there is no arm {name!r}.{did_you_mean(name, known)} There are: {', '.join(known)}."
                )
        for name in names:
            if name in self.placebos and self.baseline.name not in names:
                raise InvalidAblation(
                    f"arm {name!r} is a placebo of the baseline, {self.baseline.name!r}, which is not selected; "
                    f"expected both. Add the arm {self.baseline.name!r}."
                )
        baseline, *others = [arm for arm in self.all_arms if arm.name in names]
        return ArmSelection(
            question=self.question,
            baseline=baseline,
            arms=tuple(others),
            varies=self.varies,
            forced=self.forced,
            property_studied=self.property_studied,
        )

    def setups(self, base_setup: Setup, overrides: Mapping[str, Leaf] | None = None) -> dict[str, Setup]:
        """Derive every arm's setup from a base setup, baseline first, and verify the contract on them.

        Args:
            base_setup: the protocol's.
            overrides: dotted paths and values that are set in every arm alike; those of the network also in the
                networks that an arm starts from or is averaged with. A multiple (``Times``) multiplies the overridden
                value. An arm's own value at a path that varies or is forced takes precedence.

        Raises:
            NotASingleChange: naming every stray change with both values.
            InvalidAblation: if two arms' setups are equal.
            InvalidValue: if fields of an arm's setup are inconsistent.
        """
        return self._verified_setups(base_setup, overrides or {}, is_of_protocol=True)

    def _representative_setups(self, setup: Setup) -> dict[str, Setup]:
        """The setups of all arms from one that no protocol has given; arms may be equal where a protocol decides."""
        return self._verified_setups(setup, {}, is_of_protocol=False)

    def _verified_setups(
        self, base_setup: Setup, overrides: Mapping[str, Leaf], *, is_of_protocol: bool
    ) -> dict[str, Setup]:
        setups = {arm.name: self._derive_setup(arm, base_setup, overrides) for arm in self.all_arms}
        self._verify_contract(setups)
        require_different(self.all_arms, setups, is_of_protocol=is_of_protocol)
        return setups

    def _derive_setup(self, arm: Arm, base_setup: Setup, overrides: Mapping[str, Leaf]) -> Setup:
        """Derive one arm's setup; its own edits give way to overrides wherever all arms must agree."""
        setup = arm.apply(base_setup, overrides)
        for path, value in overrides.items():
            if path not in arm.edits or arm.is_multiple(path, setup):
                continue  # the override is applied already
            if not self._may_differ(path):
                setup = edit_field(setup, path, value)
        setup.require_consistent()
        return setup

    def _verify_contract(self, setups: Mapping[str, Setup]) -> None:
        """Verify the one-change contract on the setups of all arms.

        Raises:
            NotASingleChange: if an arm differs from the baseline outside the declared paths.
            InvalidAblation: if an arm has the name of a draw that it does not draw.
        """
        baseline_setup = setups[self.baseline.name]
        for arm_name, setup in setups.items():
            if setup.redraw_name != "none" and setup.redraws == "none":
                raise InvalidAblation(
                    f"arm {arm_name!r} has the redraw_name {setup.redraw_name!r}, and nothing is redrawn: under "
                    "another name it would train the same network. A `Placebo` arm sets both the stream and its name."
                )
            differences = compare_setups(baseline_setup, setup)
            redraw_paths = REDRAW_PATHS if arm_name in self.placebos else ()
            stray_changes = []
            for change in differences:
                if change.path not in redraw_paths and not self._may_differ(change.path):
                    stray_changes.append(str(change))
            if stray_changes:
                raise NotASingleChange(
                    f"arm {arm_name!r} may vary only {', '.join(self.varies)}, but it also changes\n  "
                    + "\n  ".join(stray_changes)
                    + "\nSet these to the baseline's values, or declare them in `forced`, each with the reason."
                )

    def _may_differ(self, path: str) -> bool:
        """Whether an arm may differ from the baseline at a path."""
        return any(is_within(path, declared) for declared in (*self.varies, *self.forced))

    def _verify_representative_setups(self) -> None:
        """Verify the contract under all conditions that an arm's values may depend on.

        An error names the conditions if any value depends on them.
        """
        values = [value for arm in self.all_arms for value in arm.edits.values()]
        is_conditional = any(isinstance(value, CONDITIONAL_VALUES) for value in values)
        for setup in REPRESENTATIVE_SETUPS:
            try:
                self._representative_setups(setup)
            except InvalidAblation as error:
                if not is_conditional:
                    raise
                data_suffix = ", on digits" if setup == DIGITS_SETUP else ""
                raise type(error)(f"at {setup.scale.resolution} pixels{data_suffix}: {error}") from None

    def tuned_setups(
        self, setups: Mapping[str, Setup], best_values: Mapping[str, Mapping[str, Leaf]]
    ) -> dict[str, Setup]:
        """Set in every arm the values that tuning chose for it.

        The tuned paths are a second permitted difference, provided that all arms were tuned on the same ones.

        Args:
            setups: of every arm, baseline first, all with one recipe.
            best_values: chosen values by path, by arm name.

        Raises:
            NotASingleChange: if an arm was not tuned, or on other paths than the baseline.
        """
        baseline_paths = set(best_values.get(self.baseline.name, ()))
        for arm_name in setups:  # the baseline among them: it must be tuned, too
            arm_paths = set(best_values.get(arm_name, ()))
            if not arm_paths or arm_paths != baseline_paths:
                raise NotASingleChange(
                    f"arm {arm_name!r} was tuned on {_list_paths(arm_paths)}, and the baseline on "
                    f"{_list_paths(baseline_paths)}. Tune every arm on the same paths, or none."
                )
        return {arm_name: edit_fields(setup, best_values[arm_name]) for arm_name, setup in setups.items()}

    def arms_overwritten_by(self, path: str, base_setup: Setup, overrides: Mapping[str, Leaf]) -> tuple[str, ...]:
        """Names of the arms that would lose a forced change of their own if a path were overridden in all arms.

        A multiple is not lost: it multiplies the overridden value.
        """
        if not any(paths_overlap(path, forced_path) for forced_path in self.forced):
            return ()
        # Without that override, to see what the arms themselves set there.
        other_overrides = {other: value for other, value in overrides.items() if other != path}
        baseline_setup = self.baseline.apply(base_setup, other_overrides)
        overwritten = []
        for arm in self.all_arms:
            setup = arm.apply(base_setup, other_overrides)
            differences = compare_setups(baseline_setup, setup)
            differs = any(paths_overlap(change.path, path) for change in differences)
            if (differs or path in arm.edits) and not arm.is_multiple(path, setup):
                overwritten.append(arm.name)
        return tuple(overwritten)

    def reference_for(self, setup: Setup) -> Reference | None:
        """The published figures at a setup's resolution."""
        if isinstance(self.reference, ByResolution):
            return self.reference.resolve(setup)
        return self.reference

    def replications_for(self, setup: Setup) -> tuple[Replication, ...]:
        """The replications at a setup's resolution."""
        if isinstance(self.replications, ByResolution):
            return self.replications.resolve(setup)
        return self.replications

    def claims_for(self, setup: Setup) -> tuple[Claim, ...]:
        """The claims with the caveats that hold at a setup's resolution."""
        return tuple(claim.at_resolution(setup.scale.resolution) for claim in self.claims)

    def _require_distinct_names(self) -> None:
        names = [arm.name for arm in self.all_arms]
        repeated = sorted({repr(name) for name in names if names.count(name) > 1})
        if repeated:
            raise InvalidAblation(f"two arms are named {', '.join(repeated)}; every arm needs a name of its own.")

    def _require_known_arms(self) -> None:
        """Check that claims, published figures and the factorial name arms of this ablation."""
        mentions = [("claim", name) for claim in self.claims for name in claim.arms]
        for setup in REPRESENTATIVE_SETUPS:
            reference = self.reference_for(setup)
            if reference:
                mentions += [("reference figure", name) for name in reference.values]
            for replication in self.replications_for(setup):
                mentions += [("replication", name) for name in replication.values]
        if self.factorial:
            mentions += [("factorial", name) for name in self.factorial.arms]
        if self.design:
            mentions += [("design", name) for name in self.design.arms]
        names = [arm.name for arm in self.all_arms]
        for source, name in mentions:
            if name in self.placebos:
                raise InvalidAblation(
                    f"a {source} names {name!r}, a placebo; expected another arm: nothing is claimed about a control."
                )
            if name not in names:
                raise InvalidAblation(
                    f"a {source} names the unknown arm {name!r}.{did_you_mean(name, names)} "
                    f"There are: {', '.join(names)}."
                )

    def _require_known_paths(self) -> None:
        """Check that ``varies`` and ``forced`` name settings that some arm has."""
        known_paths: set[str] = set()
        for arm in self.all_arms:
            for setup in REPRESENTATIVE_SETUPS:
                known_paths |= _setting_paths(arm.apply(setup))
        for path in (*self.varies, *self.forced):
            if path not in known_paths:
                raise InvalidAblation(
                    f"{path!r} in `varies` or `forced` is not a setting of any arm.{did_you_mean(path, known_paths)}"
                )


class ArmSelection(Ablation):
    """Some arms of an ablation, perhaps its baseline alone: what a calibration trains."""

    fewest_arms: ClassVar[int] = 0

    def _require_known_paths(self) -> None:
        """The whole ablation has been checked; a path may be one of an arm that was not selected."""


def _setting_paths(setup: Setup) -> set[str]:
    """Paths of all leaves of a setup and of everything that contains one."""
    paths: set[str] = set()
    for leaf_path in flatten_fields(setup, with_omitted=True):
        path = leaf_path
        while path and path not in paths:  # the ancestors of a known path are known
            paths.add(path)
            path = path.rpartition(".")[0]
    return paths


def _list_paths(paths: Iterable[str]) -> str:
    return ", ".join(sorted(paths)) or "nothing"
