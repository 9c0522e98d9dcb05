"""Does local response normalization help a network of eleven layers, and what does it cost?"""

from ablations import Ablation, Arm, DoesNotHelp, Helps, Reference
from lightning_modules.catalogue import VGG_A, VGG_A_LRN

PAPER = "Simonyan & Zisserman 2015"

ABLATION = Ablation(
    question=__doc__,
    baseline=Arm("A", {"network": VGG_A}),
    arms=(Arm("A-LRN", {"network": VGG_A_LRN}),),
    varies=("network.norm",),
    claims=(
        DoesNotHelp(arm="A-LRN", over="A", source=f"{PAPER}, Sect. 4.1"),
        Helps(arm="A", over="A-LRN", endpoint="time", source=f"{PAPER}, Sect. 2.1"),
        Helps(arm="A", over="A-LRN", endpoint="memory", source=f"{PAPER}, Sect. 2.1"),
    ),
    reference=Reference(
        source=f"{PAPER}, Table 3 (S = Q = 256)",
        quantity="top-1 error on ILSVRC-2012 validation, percent",
        values={"A": 29.6, "A-LRN": 29.7},
        caveat="one run per network",
    ),
)
