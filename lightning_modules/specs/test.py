"""How a trained network is tested: crops, scales, mirroring, ensembles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from lightning_modules.specs.networks import Network
from lightning_modules.specs.values import check_fields, require_field

TestMode = Literal["single", "dense", "multi-crop", "both", "ten-crop"]
TEST_MODES: tuple[TestMode, ...] = get_args(TestMode)
Mirroring = Literal["as-trained", "never", "always"]


@dataclass(frozen=True, kw_only=True)
class Test:
    """How a trained network is tested; class posteriors are averaged over all crops, scales, mirrorings and members.

    Attributes:
        mode: ``single``, the center crop, not mirrored; ``dense``, the whole image, with fully connected layers as
            convolutions (Simonyan & Zisserman 2015, Sect. 3.2); ``multi-crop``, a grid of 5 × 5 crops; ``both``, the
            mean of those two; ``ten-crop``, four corners and the center (Krizhevsky et al. 2012, Sect. 4.1).
        sides: shorter sides to which each image is rescaled, in units of the crop's side: 8/7 is 256 pixels at a crop
            of 224. Empty: the side at which images are tested during training.
        mirroring: whether crops and whole images are evaluated mirrored as well: if training mirrored images, never, or
            always.
        members: further networks of an ensemble, trained under the same recipe and seed; their posteriors are averaged
            with this network's.
    """

    mode: TestMode = "single"
    sides: tuple[float, ...] = ()
    mirroring: Mirroring = "as-trained"
    members: tuple[Network, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)
        is_large_enough = all(side >= 1 for side in self.sides)
        require_field(is_large_enough, self, "sides", "factors of 1 or more on the side of the crop")
        require_field(len(set(self.sides)) == len(self.sides), self, "sides", "factors that differ from each other")
        require_field(
            self.mode != "single" or self.mirroring == "as-trained",
            self,
            "mirroring",
            "'as-trained': a single crop is never mirrored",
        )
        # 1 and 1.0 are one setting, with one fingerprint.
        object.__setattr__(self, "sides", tuple(map(float, self.sides)))

    def __repr__(self) -> str:
        from lightning_modules.specs.notebook_html import describe_object, list_changed_fields

        facts = [self.mode, *list_changed_fields(self, ("mirroring",))]
        if self.sides:
            facts.append(f"sides {', '.join(f'{side:.3g}' for side in self.sides)}")
        if self.members:
            facts.append(f"with {' and '.join(member._repr_title_() for member in self.members)}")
        return describe_object(self, "; ".join(facts))
