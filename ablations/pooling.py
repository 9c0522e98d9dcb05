"""Does it matter how a network halves its maps: by a maximum, by an average, or by a convolution of stride 2?"""

from dataclasses import replace

from ablations import Ablation, Arm, DoesNotHelp
from lightning_modules.catalogue import VGG_A

ABLATION = Ablation(
    question=__doc__,
    baseline=Arm("max", {"network": VGG_A}),
    arms=(
        Arm("average", {"network": replace(VGG_A, pooling="average")}),
        Arm("strided", {"network": replace(VGG_A, pooling="strided")}),
    ),
    varies=("network.pooling",),
    claims=(
        DoesNotHelp(arm="average", over="max"),
        DoesNotHelp(arm="strided", over="max", source="Springenberg et al. 2015, Table 3"),
    ),
)
