"""Does training at scales drawn at random help, against one fixed scale?"""

from ablations import Ablation, Arm, ByResolution, Helps, Reference
from lightning_modules.catalogue import VGG_A, VGG_D

PAPER = "Simonyan & Zisserman 2015, Sect. 4.1"
CAVEAT = "the paper's network started from the weights for S = 384 and was tested on whole images, not on center crops"
SMALL, MIDDLE, LARGE = 8 / 7, 12 / 7, 16 / 7  # 256, 384 and 512 pixels at a crop of 224


def jitter_arm(name: str, side_from: float, side_to: float) -> Arm:
    """An arm that trains at sides drawn from a range; the network is the larger one that fits the resolution."""
    return Arm(
        name,
        {
            "network": ByResolution(small=VGG_A, large=VGG_D),
            "recipe.augmentation": "crop-flip-colour",
            "recipe.side_from": side_from,
            "recipe.side_to": side_to,
        },
    )


ABLATION = Ablation(
    question=__doc__,
    baseline=jitter_arm("S = 256", SMALL, SMALL),
    arms=(jitter_arm("S = 384", MIDDLE, MIDDLE), jitter_arm("S in [256; 512]", SMALL, LARGE)),
    varies=("recipe.side_from", "recipe.side_to"),
    claims=(
        Helps(arm="S in [256; 512]", over="S = 256", source=PAPER, caveat=CAVEAT),
        Helps(arm="S in [256; 512]", over="S = 384", source=PAPER, caveat=CAVEAT),
    ),
    reference=ByResolution(
        small=None,
        large=Reference(
            source="Simonyan & Zisserman 2015, Table 3",
            quantity="top-1 error of D on ImageNet's validation set, percent, dense evaluation at one scale",
            values={"S = 256": 27.0, "S = 384": 26.8, "S in [256; 512]": 25.6},
            caveat="one run each; the second and third arm were trained longer, each from the one before",
        ),
    ),
)
