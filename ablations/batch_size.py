"""Does the batch size matter, at one learning rate and equal epochs?"""

from ablations import Ablation, Arm, DoesNotHelp, Times
from lightning_modules.catalogue import VGG_A

ABLATION = Ablation(
    question=__doc__,
    baseline=Arm("the batch", {"network": VGG_A}),
    arms=(
        Arm("half the batch", {"network": VGG_A, "recipe.batch_size": Times(0.5)}),
        Arm("twice the batch", {"network": VGG_A, "recipe.batch_size": Times(2)}),
    ),
    varies=("recipe.batch_size",),
    claims=(
        DoesNotHelp(arm="half the batch", over="the batch"),
        DoesNotHelp(arm="twice the batch", over="the batch", caveat="equal epochs: half as many steps"),
    ),
)
