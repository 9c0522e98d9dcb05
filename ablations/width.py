"""How much does the error of a network of eleven layers depend on its width?"""

from ablations import Ablation, Arm, FallsWith, Times
from lightning_modules.catalogue import VGG_A

ABLATION = Ablation(
    question=__doc__,
    baseline=Arm("full width", {"network": VGG_A}),
    arms=(
        Arm("half width", {"network": VGG_A, "scale.width": Times(0.5)}),
        Arm("double width", {"network": VGG_A, "scale.width": Times(2)}),
    ),
    varies=("scale.width",),
    property_studied="parameters",
    claims=(FallsWith(order=("half width", "full width", "double width")),),
)
