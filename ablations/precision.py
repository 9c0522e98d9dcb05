"""Does bfloat16 in the forward and backward pass leave the error as it is?"""

from ablations import Ablation, AllOf, Arm, DoesNotHelp
from lightning_modules.catalogue import VGG_A

ABLATION = Ablation(
    question=__doc__,
    baseline=Arm("float32", {"network": VGG_A, "recipe.precision": "float32"}),
    arms=(Arm("bfloat16", {"network": VGG_A, "recipe.precision": "bfloat16"}),),
    varies=("recipe.precision",),
    claims=(
        AllOf(
            parts=(
                DoesNotHelp(arm="bfloat16", over="float32"),
                DoesNotHelp(arm="float32", over="bfloat16"),
            )
        ),
    ),
)
