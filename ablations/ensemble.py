"""Do two trained networks, whose class posteriors are averaged, err less than each of them alone?"""

from ablations import Ablation, AllOf, Arm, Helps, Reference
from lightning_modules.catalogue import VGG_D, VGG_E
from lightning_modules.spec import Test

PAPER = "Simonyan & Zisserman 2015"

ABLATION = Ablation(
    question=__doc__,
    baseline=Arm("D", {"network": VGG_D}),
    arms=(Arm("E", {"network": VGG_E}), Arm("D and E", {"network": VGG_D, "test": Test(members=(VGG_E,))})),
    varies=("network.stages", "test.members"),
    claims=(
        AllOf(
            parts=tuple(Helps(arm="D and E", over=member) for member in ("D", "E")),
            source=f"{PAPER}, Sect. 4.4",
        ),
    ),
    reference=Reference(
        source=f"{PAPER}, Tables 5 and 6 (dense)",
        quantity="top-1 error on ILSVRC-2012 validation, percent",
        values={"D": 24.8, "E": 24.8, "D and E": 24.0},
        caveat="one run per network, trained at sides of 256 to 512 pixels and tested on whole images at three",
    ),
)
