"""Does a trained network err less if it is tested on images of three sizes than on images of one?"""

from ablations import Ablation, Arm, Caveat, Helps, Reference
from ablations._dense_positions import dense_positions
from lightning_modules.catalogue import VGG_D
from lightning_modules.spec import Test

PAPER = "Simonyan & Zisserman 2015"
SMALLER, S, LARGER = 1.0, 8 / 7, 9 / 7  # 224, 256 and 288 pixels at a crop of 224: Q of S - 32, S and S + 32
TRAINED = {"network": VGG_D, "recipe.augmentation": "crop-flip", "recipe.side_from": S, "recipe.side_to": S}
SINGLE_POSITION = Caveat(
    "at {resolution} pixels five poolings leave one position of an image of any of the three sizes, so a larger image "
    "shows the network no more places",
    lambda resolution: dense_positions(resolution, LARGER) == 1,
)

ABLATION = Ablation(
    question=__doc__,
    baseline=Arm("one size", {**TRAINED, "test": Test(mode="dense", sides=(S,))}),
    arms=(
        Arm("smaller", {**TRAINED, "test": Test(mode="dense", sides=(SMALLER,))}),
        Arm("larger", {**TRAINED, "test": Test(mode="dense", sides=(LARGER,))}),
        Arm("three sizes", {**TRAINED, "test": Test(mode="dense", sides=(SMALLER, S, LARGER))}),
    ),
    varies=("test.sides",),
    property_studied="multiply_adds",
    claims=(Helps(arm="three sizes", over="one size", source=f"{PAPER}, Sect. 4.2", caveat=SINGLE_POSITION),),
    reference=Reference(
        source=f"{PAPER}, Tables 3 and 4 (D, S = 256)",
        quantity="top-1 error on ILSVRC-2012 validation, percent",
        values={"one size": 27.0, "three sizes": 26.6},
        caveat="one network, trained at a side of 256 pixels",
    ),
)
