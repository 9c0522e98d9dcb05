"""Does a trained network err less if it is tested on the whole image, on many crops, or on both, than on one crop?"""

from ablations import Ablation, AllOf, Arm, Caveat, Helps, Reference
from ablations._dense_positions import dense_positions
from lightning_modules.catalogue import VGG_D

PAPER = "Simonyan & Zisserman 2015"
S = 8 / 7  # the paper's S: 256 pixels at a crop of 224; images are tested at this side, too
TRAINED = {"network": VGG_D, "recipe.augmentation": "crop-flip", "recipe.side_from": S, "recipe.side_to": S}
SINGLE_POSITION = Caveat(
    "at {resolution} pixels five poolings reduce a whole image to one position, so dense evaluation averages over "
    "nothing",
    lambda resolution: dense_positions(resolution, S) == 1,
)

ABLATION = Ablation(
    question=__doc__,
    baseline=Arm("single crop", TRAINED),
    arms=(
        Arm("dense", {**TRAINED, "test.mode": "dense"}),
        Arm("multi-crop", {**TRAINED, "test.mode": "multi-crop"}),
        Arm("multi-crop and dense", {**TRAINED, "test.mode": "both"}),
    ),
    varies=("test.mode",),
    property_studied="multiply_adds",
    claims=(
        Helps(arm="dense", over="single crop", caveat=SINGLE_POSITION),
        Helps(arm="multi-crop", over="dense", source=f"{PAPER}, Sect. 4.3", caveat=SINGLE_POSITION),
        AllOf(
            parts=tuple(Helps(arm="multi-crop and dense", over=other) for other in ("dense", "multi-crop")),
            source=f"{PAPER}, Sect. 4.3",
            caveat=SINGLE_POSITION,
        ),
    ),
    reference=Reference(
        source=f"{PAPER}, Table 5 (D)",
        quantity="top-1 error on ILSVRC-2012 validation, percent",
        values={"dense": 24.8, "multi-crop": 24.6, "multi-crop and dense": 24.4},
        caveat="one network, trained at sides of 256 to 512 pixels and tested at three, 256, 384 and 512",
    ),
)
