"""Is a stack of 3×3 convolutions better than one large convolution that sees as much?"""

from dataclasses import replace

from ablations import Ablation, Arm, Helps
from lightning_modules.catalogue import VGG_A
from lightning_modules.spec import Conv

PAPER = "Simonyan & Zisserman 2015, Sect. 2.3"


def second_stage(*kernels: int) -> dict[str, object]:
    """A's second stage, from 64 to 128 channels, with other convolutions."""
    convs = tuple(Conv(kernel=kernel) for kernel in kernels)
    return {"network": VGG_A, "network.stages.1": replace(VGG_A.stages[1], convs=convs)}


ABLATION = Ablation(
    question=__doc__,
    baseline=Arm("three 3×3", second_stage(3, 3, 3)),
    arms=(
        Arm("one 7×7", second_stage(7)),
        Arm("five 3×3", second_stage(3, 3, 3, 3, 3)),
        Arm("one 11×11", second_stage(11)),
    ),
    varies=("network.stages.1.convs",),
    claims=(
        Helps(arm="three 3×3", over="one 7×7", source=PAPER),
        Helps(arm="five 3×3", over="one 11×11"),
        Helps(
            arm="three 3×3",
            over="one 11×11",
            caveat="often quoted, and not matched in receptive field: three 3×3 see 7 positions, one 11×11 sees 11",
        ),
    ),
)
