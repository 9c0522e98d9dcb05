"""Does augmentation help: shifts, and shifts with mirroring?"""

from ablations import Ablation, Arm, Helps
from lightning_modules.catalogue import VGG_A

AS_STORED = {
    "network": VGG_A,
    "recipe.side_from": 0.0,
    "recipe.side_to": 0.0,
}  # a rescaled image would be cropped, not shifted

ABLATION = Ablation(
    question=__doc__,
    baseline=Arm("no augmentation", {**AS_STORED, "recipe.augmentation": "none"}),
    arms=(
        Arm("shift", {**AS_STORED, "recipe.augmentation": "shift"}),
        Arm("shift and flip", {**AS_STORED, "recipe.augmentation": "shift-flip"}),
    ),
    varies=("recipe.augmentation",),
    claims=(Helps(arm="shift", over="no augmentation"), Helps(arm="shift and flip", over="shift")),
)
