"""Are the fully connected layers, where 89% of VGG-16's parameters lie, worth them against global average pooling?"""

from ablations import Ablation, Arm, DoesNotHelp
from lightning_modules.catalogue import VGG_D
from lightning_modules.spec import Head

AVERAGE = Head(pooling="average", widths=(), dropout=0.0)

ABLATION = Ablation(
    question=__doc__,
    baseline=Arm("fully connected", {"network": VGG_D}),
    arms=(Arm("global average", {"network": VGG_D, "network.head": AVERAGE}),),
    varies=("network.head",),
    property_studied="parameters",
    claims=(DoesNotHelp(arm="fully connected", over="global average", source="Lin et al. 2014, Sect. 3.2"),),
)
