"""Which shortcut is best: identity (A), projection where the shape changes (B), or projection everywhere (C)?"""

from dataclasses import replace

from ablations import Ablation, Arm, ByResolution, Helps, Reference
from lightning_modules.catalogue import RESNET_20, RESNET_34
from lightning_modules.spec import ResNet, Shortcut

PAPER = "He et al. 2016, Table 3"


def with_shortcut(shortcut: Shortcut) -> dict[str, ByResolution[ResNet]]:
    """The edit to a residual network with a kind of shortcut."""
    small, large = (replace(network, shortcut=shortcut) for network in (RESNET_20, RESNET_34))
    return {"network": ByResolution(small=small, large=large)}


ABLATION = Ablation(
    question=__doc__,
    baseline=Arm("A", with_shortcut("identity")),
    arms=(Arm("B", with_shortcut("projection")), Arm("C", with_shortcut("projection-all"))),
    varies=("network.shortcut",),
    claims=(Helps(arm="B", over="A", source=PAPER), Helps(arm="C", over="B", source=PAPER)),
    reference=ByResolution(
        small=None,
        large=Reference(
            source=PAPER,
            quantity="top-1 error of ResNet-34 on ILSVRC-2012 validation, 10-crop, percent",
            values={"A": 25.03, "B": 24.52, "C": 24.19},
            caveat="one run per network",
        ),
    ),
)
