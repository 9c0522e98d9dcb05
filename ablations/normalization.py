"""Does normalization make the deepest network of the VGG paper easier to train, and which one does?"""

from dataclasses import replace

from ablations import NORMALIZATION_REPLICATIONS, Ablation, Arm, Helps
from lightning_modules.catalogue import VGG_E

PAPER = "Ioffe & Szegedy 2015; He et al. 2016, Sect. 4.1"

ABLATION = Ablation(
    question=__doc__,
    baseline=Arm("no norm", {"network": VGG_E}),
    arms=(
        Arm("LRN", {"network": replace(VGG_E, norm="lrn")}),
        Arm("batch norm", {"network": replace(VGG_E, norm="batch")}),
        Arm("group norm", {"network": replace(VGG_E, norm="group")}),
    ),
    varies=("network.norm",),
    claims=(
        Helps(arm="batch norm", over="no norm", endpoint="trainability", source=PAPER),
        Helps(arm="batch norm", over="no norm", source=PAPER),
        Helps(arm="batch norm", over="LRN", endpoint="trainability"),
        Helps(arm="group norm", over="no norm", endpoint="trainability", source="Wu & He 2018"),
    ),
    replications=NORMALIZATION_REPLICATIONS,
)
