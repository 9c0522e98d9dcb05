"""Does dropout in the fully connected layers help a network of eleven layers?"""

from dataclasses import replace

from ablations import Ablation, Arm, Helps
from lightning_modules.catalogue import VGG_A
from lightning_modules.spec import Head

ABLATION = Ablation(
    question=__doc__,
    baseline=Arm("no dropout", {"network": replace(VGG_A, head=Head(dropout=0.0))}),
    arms=(
        Arm("dropout 0.25", {"network": replace(VGG_A, head=Head(dropout=0.25))}),
        Arm("dropout 0.5", {"network": VGG_A}),
    ),
    varies=("network.head.dropout",),
    claims=(Helps(arm="dropout 0.5", over="no dropout", source="Krizhevsky et al. 2012, Sect. 4.2"),),
)
