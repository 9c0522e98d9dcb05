"""Does augmentation help: shifts, and shifts with mirroring?"""

from ablations import Ablation, Arm, Helps
from lightning_modules.catalogue import VGG_A

ABLATION = Ablation(
    question=__doc__,
    baseline=Arm("no augmentation", {"network": VGG_A, "recipe.augmentation": "none"}),
    arms=(
        Arm("shift", {"network": VGG_A, "recipe.augmentation": "shift"}),
        Arm("shift and flip", {"network": VGG_A, "recipe.augmentation": "shift-flip"}),
    ),
    varies=("recipe.augmentation",),
    claims=(Helps(arm="shift", over="no augmentation"), Helps(arm="shift and flip", over="shift")),
)
