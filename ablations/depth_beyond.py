"""Does the error of a VGG network stop falling at 19 weight layers?"""

from ablations import Ablation, Arm, Reference, SaturatesAt
from lightning_modules.catalogue import VGG_25, VGG_31, VGG_D, VGG_E

PAPER = "Simonyan & Zisserman 2015"

ABLATION = Ablation(
    question=__doc__,
    baseline=Arm("E", {"network": VGG_E}),
    arms=(
        Arm("D", {"network": VGG_D}),
        Arm("25 layers", {"network": VGG_25}),  # from D to E each of the last three stages gains a layer; here two more
        Arm("31 layers", {"network": VGG_31}),  # four more
    ),
    varies=("network.stages",),
    property_studied="weight_layers",
    claims=(
        SaturatesAt(
            arm="E",
            order=("D", "E", "25 layers", "31 layers"),
            source=f"{PAPER}, Sect. 4.1",
            caveat="the paper trained nothing deeper than E, so its own arms cannot show a plateau",
        ),
    ),
    reference=Reference(
        source=f"{PAPER}, Table 3 (S = Q = 256)",
        quantity="top-1 error on ILSVRC-2012 validation, percent",
        values={"D": 27.0, "E": 27.3},
        caveat="one run per network; both start from A's weights",
    ),
)
