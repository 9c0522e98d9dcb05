"""Does the error of a VGG network fall as it grows from 11 to 19 weight layers?"""

from ablations import DEPTH_REPLICATIONS, Ablation, Arm, FallsWith, Reference
from lightning_modules.catalogue import VGG_A, VGG_B, VGG_D, VGG_E

ABLATION = Ablation(
    question=__doc__,
    baseline=Arm("A", {"network": VGG_A}),
    arms=(Arm("B", {"network": VGG_B}), Arm("D", {"network": VGG_D}), Arm("E", {"network": VGG_E})),
    varies=("network.stages",),
    property_studied="weight_layers",
    claims=(FallsWith(order=("A", "B", "D", "E"), source="Simonyan & Zisserman 2015, Sect. 4.1"),),
    reference=Reference(
        source="Simonyan & Zisserman 2015, Table 3 (S = Q = 256)",
        quantity="top-1 error on ILSVRC-2012 validation, percent",
        values={"A": 29.6, "B": 28.7, "D": 27.0, "E": 27.3},
        caveat="one run per network; B, D and E start from A's weights",
    ),
    replications=DEPTH_REPLICATIONS,
)
