"""Do further layers help by their non-linearity alone (1×1), or by the context that they see (3×3)?"""

from ablations import Ablation, Arm, Helps, Reference
from lightning_modules.catalogue import VGG_B, VGG_C, VGG_D

PAPER = "Simonyan & Zisserman 2015"

ABLATION = Ablation(
    question=__doc__,
    baseline=Arm("B", {"network": VGG_B}),
    arms=(Arm("C", {"network": VGG_C}), Arm("D", {"network": VGG_D})),
    varies=("network.stages",),
    claims=(
        Helps(arm="C", over="B", source=f"{PAPER}, Sect. 4.1"),
        Helps(arm="D", over="C", source=f"{PAPER}, Sect. 4.1"),
    ),
    reference=Reference(
        source=f"{PAPER}, Table 3 (S = Q = 256)",
        quantity="top-1 error on ILSVRC-2012 validation, percent",
        values={"B": 28.7, "C": 28.1, "D": 27.0},
        caveat="one run per network; all three start from A's weights",
    ),
)
