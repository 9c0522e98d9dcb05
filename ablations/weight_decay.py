"""Does weight decay help a network of eleven layers?"""

from ablations import Ablation, Arm, Helps, Times
from lightning_modules.catalogue import VGG_A

ABLATION = Ablation(
    question=__doc__,
    baseline=Arm("no decay", {"network": VGG_A, "recipe.weight_decay": 0.0}),
    arms=(
        Arm("decay", {"network": VGG_A}),
        Arm("ten times the decay", {"network": VGG_A, "recipe.weight_decay": Times(10)}),
    ),
    varies=("recipe.weight_decay",),
    claims=(Helps(arm="decay", over="no decay", source="Krizhevsky et al. 2012, Sect. 5"),),
)
