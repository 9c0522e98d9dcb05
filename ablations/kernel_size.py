"""Are two 3×3 convolutions better than one 5×5 that sees as much, and is it their inner non-linearity?"""

from ablations import Ablation, Arm, Factor, Factorial, Helps
from lightning_modules.catalogue import VGG_B, vgg_stages
from lightning_modules.spec import Stage

PAPER = "Simonyan & Zisserman 2015, Sect. 4.1"
ONE_READING = (
    "the paper's 7% may be points or relative; a center crop, one run; its arms differ in more than the kernel"
)


def stages_of_5x5(*widths: int) -> tuple[Stage, ...]:
    """Five stages of one 5×5 convolution each."""
    return vgg_stages(*[(5,)] * 5, widths=widths)


ABLATION = Ablation(
    question=__doc__,
    baseline=Arm("two 3×3", {"network": VGG_B}),
    arms=(
        Arm("5×5", {"network.stages": stages_of_5x5(64, 128, 256, 512, 512)}),
        Arm("two 3×3 without inner ReLU", {"network.stages": vgg_stages(*[(3, 3)] * 5, activate=False)}),
        Arm("5×5 then 1×1", {"network.stages": vgg_stages(*[(5, 1)] * 5)}),
        Arm("5×5 of 3×3's parameters", {"network.stages": stages_of_5x5(58, 115, 231, 461, 512)}),
        Arm("5×5 of 3×3's arithmetic", {"network.stages": stages_of_5x5(71, 142, 284, 568, 512)}),
    ),
    varies=("network.stages",),
    factorial=Factorial(
        rows=Factor(name="kernels", levels=("two 3×3", "5×5")),
        columns=Factor(name="inner ReLU", levels=("yes", "no")),
        cells=(("two 3×3", "two 3×3 without inner ReLU"), ("5×5 then 1×1", "5×5")),
    ),
    claims=(
        Helps(arm="two 3×3", over="5×5", source=PAPER, caveat=ONE_READING),
        Helps(arm="two 3×3", over="two 3×3 without inner ReLU", source=f"{PAPER} (why 3×3 helps)"),
    ),
)
