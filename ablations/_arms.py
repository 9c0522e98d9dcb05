"""An arm: a named edit of the protocol's setup."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import get_args

from ablations._conditional import Times, apply_edit, is_multiple, resolve_conditional
from ablations._errors import InvalidAblation
from ablations._paths import is_below, is_within
from lightning_modules.specs.catalogue import VGG_A
from lightning_modules.specs.data import Data
from lightning_modules.specs.errors import InvalidValue, UnknownPath
from lightning_modules.specs.notebook_html import describe_object, describe_settings
from lightning_modules.specs.scale import Scale
from lightning_modules.specs.setup import Redraws, Scratch, Setup, WarmStart
from lightning_modules.specs.text import join_words
from lightning_modules.specs.values import Leaf, edit_field

DEFAULT_SETUP = Setup(network=VGG_A)
SMALL_SETUP = Setup(network=VGG_A, scale=Scale(resolution=32))
DIGITS_SETUP = replace(SMALL_SETUP, data=Data(source="digits"))

# One per branch of ByResolution and ByData: what holds for these holds under every protocol.
REPRESENTATIVE_SETUPS = (DEFAULT_SETUP, SMALL_SETUP, DIGITS_SETUP)
MAX_NAME_LENGTH = 200  # characters; longer ones make no table
DEPENDENCY_NAME_PREFIX = "donor of "  # of the trials that train the source network of an arm's warm start; recorded


@dataclass(frozen=True)
class Arm:
    """A named edit of a setup: dotted paths with their new values, checked where the arm is declared.

    A value may depend on the resolution (``ByResolution``) or the data (``ByData``), or multiply the protocol's own
    value (``Times``).

    Raises:
        UnknownPath: if a path names no field of a setup.
        InvalidValue: if a field does not accept its value, if an edit would be undone by a later one, or if the arm's
            name is empty or reserved.
    """

    name: str
    edits: Mapping[str, object]

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise InvalidValue(f"Arm.name is {self.name!r}; expected text.")
        if not self.name.strip():
            raise InvalidValue("an arm needs a name.")
        self._check_edits()
        if len(self.name) > MAX_NAME_LENGTH or not self.name.isprintable():
            raise InvalidValue(
                f"the name of an arm begins with {self.name[:40]!r} and has {len(self.name)} characters; expected up "
                f"to {MAX_NAME_LENGTH} printable ones in one line, as the name heads rows of tables."
            )
        if self.name.startswith(DEPENDENCY_NAME_PREFIX):
            raise InvalidValue(
                f"an arm is named {self.name!r}; names that begin with {DEPENDENCY_NAME_PREFIX.strip()!r} are reserved "
                "for the source networks of warm starts. Rename the arm."
            )
        for setup in REPRESENTATIVE_SETUPS:
            self.apply(setup)

    def _check_edits(self) -> None:
        if not isinstance(self.edits, Mapping) or not all(isinstance(path, str) for path in self.edits):
            raise InvalidValue(
                f"the edits of arm {self.name!r} are {self.edits!r}; expected a mapping from paths to values."
            )
        for earlier, later in combinations(self.edits, 2):
            if is_below(earlier, later):
                raise InvalidValue(
                    f"arm {self.name!r} sets {earlier} before {later}, which replaces it; expected {later} first."
                )

    def __repr__(self) -> str:
        # A whole network is long, and comes last: a long line is cut at its end.
        edits = dict(sorted(self.edits.items(), key=lambda edit: edit[0] == "network"))
        return describe_object(self, f"{self.name}: {describe_settings(edits) or 'the setup of the protocol'}")

    def apply(self, setup: Setup, overrides: Mapping[str, Leaf] | None = None) -> Setup:
        """Apply this arm's edits to a setup, in the order in which they were declared.

        Args:
            setup: the base setup, which stays as it is.
            overrides: paths and values that are set in every arm alike.
        """
        overrides = overrides or {}
        # Overrides come before the edits, so that a multiple multiplies the overridden value.
        for path, value in overrides.items():
            if not any(is_below(path, edited_path) for edited_path in self.edits):
                setup = self._edit_setup(setup, path, value)
        for edited_path, edit in self.edits.items():
            setup = self._edit_setup(setup, edited_path, edit)
            # An edit of `network` replaces the whole network: an override of `network.init` must come after it.
            for path, value in overrides.items():
                if is_below(path, edited_path):
                    setup = self._edit_setup(setup, path, value)
        return self._override_dependencies(setup, overrides)

    def is_multiple(self, path: str, setup: Setup) -> bool:
        """Whether this arm multiplies the value at a path, at a setup's resolution and data."""
        return isinstance(resolve_conditional(setup, self.edits.get(path)), Times)

    def _override_dependencies(self, setup: Setup, overrides: Mapping[str, Leaf]) -> Setup:
        """Set the overrides of the network in the networks that this one depends on as well.

        A warm start from a network with, say, another activation would be a second change. Overrides of the data are
        not passed on: a fraction that suits one data set may leave too few examples of another.

        Raises:
            InvalidValue: if one of these networks does not accept an override.
        """
        dependency_paths = list(source_network_paths(setup.start))
        dependency_paths += [f"test.members.{index}" for index in range(len(setup.test.members))]
        for path, value in overrides.items():
            if not is_below(path, "network"):
                continue
            for dependency_path in dependency_paths:
                path_in_dependency = f"{dependency_path}.{path.removeprefix('network.')}"
                if path_in_dependency in self.edits:
                    continue  # the arm's own value wins
                try:
                    setup = edit_field(setup, path_in_dependency, value)
                except InvalidValue as error:
                    raise InvalidValue(
                        f"{path} is set for all arms, but the network {dependency_path} of arm {self.name!r} does not "
                        f"accept it: {error} Remove that setting, or declare another network there."
                    ) from None
        return setup

    def _edit_setup(self, setup: Setup, path: str, value: object) -> Setup:
        try:
            return apply_edit(setup, path, value)
        except UnknownPath as error:
            raise UnknownPath(f"arm {self.name!r}, path {path!r}: {error}") from None
        except InvalidValue as error:
            raise InvalidValue(f"arm {self.name!r}, path {path!r}: {error}") from None


@dataclass(frozen=True, repr=False)
class Placebo(Arm):
    """The baseline again, with another draw of one stream of random numbers: a control, about which nothing is claimed.

    Its trials share every other stream with the baseline's, seed by seed. Whatever verdict says that it differs from
    the baseline is a false alarm.

    Attributes:
        name: of the arm, and of the draw: a placebo of another name draws other numbers.
        edits: the baseline's; the ablation sets them.
        redraws: the stream: initial ``weights``, data ``order`` or ``augmentation``.

    Raises:
        InvalidValue: for another stream.
    """

    name: str = "placebo"
    edits: Mapping[str, object] = field(default_factory=dict)
    redraws: Redraws = "weights"

    def __post_init__(self) -> None:
        streams = [stream for stream in get_args(Redraws) if stream != "none"]
        if self.redraws not in streams:
            raise InvalidValue(f"Placebo.redraws is {self.redraws!r}; expected one of {', '.join(map(repr, streams))}.")
        edits = {**self.edits, "redraws": self.redraws, "redraw_name": self.name}
        object.__setattr__(self, "edits", edits)  # the class is frozen
        super().__post_init__()

    def __repr__(self) -> str:
        return describe_object(self, f"{self.name}: redraws {self.redraws}")

    def of_baseline(self, baseline: Arm) -> Placebo:
        """Return the placebo of a baseline: the same edits, and the redrawn stream."""
        return Placebo(self.name, baseline.edits, self.redraws)


def paths_left_to_protocol(first: Arm, second: Arm) -> tuple[str, ...]:
    """Paths that one of two arms sets, and that the other takes from the protocol, as they are or multiplied.

    There the arms may be equal under one protocol and differ under another.
    """
    paths: dict[str, None] = {}  # a dict as an ordered set
    for arm, other in ((first, second), (second, first)):
        for path, value in arm.edits.items():
            is_left = not any(is_within(path, other_path) for other_path in other.edits)
            if is_left or (is_multiple(value) and path in other.edits and value != other.edits[path]):
                paths[path] = None
    return tuple(paths)


def require_different(arms: Iterable[Arm], setups: Mapping[str, Setup], *, is_of_protocol: bool) -> None:
    """Check that no two arms have one setup: they would share their trials, and their contrast would be zero.

    Args:
        arms: not only the baseline and each other arm: claims may compare any two.
        setups: of the arms, by name.
        is_of_protocol: whether the setups are a protocol's; otherwise arms may be equal where a protocol decides.

    Raises:
        InvalidAblation: naming two arms of one setup.
    """
    for first, second in combinations(arms, 2):
        if setups[first.name] != setups[second.name]:
            continue
        left = paths_left_to_protocol(first, second)
        if is_of_protocol or not left:
            reason = f" under this protocol, which sets {join_words(left)} to the same value" if left else ""
            raise InvalidAblation(
                f"arms {first.name!r} and {second.name!r} are the same setup{reason}: there is nothing to compare."
            )


REDRAW_PATHS = ("redraws", "redraw_name")


def source_network_paths(start: Scratch | WarmStart, path: str = "start") -> Iterator[str]:
    """Paths of the networks along a chain of warm starts: ``start.network``, ``start.start.network`` and so on."""
    while isinstance(start, WarmStart):
        yield f"{path}.network"
        start, path = start.start, f"{path}.start"
