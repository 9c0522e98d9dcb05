"""The VGG paper's training on ImageNet at 224 pixels (Simonyan & Zisserman 2015, Sect. 3.1).

Claim: the paper's recipe, for ImageNet as an image folder and a machine with GPUs. Batch 256, momentum 0.9, weight
decay 5e-4, dropout 0.5 on the first two fully connected layers; a rate of 0.01, divided by ten when the validation
error has stopped improving, three times; 74 epochs; images rescaled to a shorter side of 256, a random crop of 224,
mirrored, shifted in color.
Cost: the paper's networks took two to three weeks each on four GPUs of 2013: 74 epochs of 1.3 million images.
Command: ``make study-depth PROTOCOL=imagenet DATA_ROOT=imagenet GPUS_PER_TRIAL=1``

Differences from the paper: pixels are divided by their standard deviation as well, and biases have no weight decay, as
in every protocol. ImageNet's validation images are the test split, as their labels are published; a hundredth of the
training images takes their place in the schedule. The paper does not say how long it waited for an improvement: here it
is five epochs.
Weights are initialized as the ablation says, by default by He's rule: under the paper's own Gaussian the logits of a
full-width D start at 10^8 for pixels of unit variance (``initialization`` studies that, and the warm start from A).

Plain and residual networks follow their own paper instead (He et al. 2016, Sect. 3.4): rate 0.1, weight decay 1e-4, a
shorter side drawn from 256 to 480; 120 epochs are its 600,000 steps of 256 images.

Files that cannot be read, or whose format differs from their suffix, are left out and listed: ImageNet is known to hold
a PNG among its JPEGs.
"""

from lightning_modules.catalogue import VGG_A
from lightning_modules.spec import Data, Recipe, Scale, Setup
from studies.protocols._protocol import Protocol

PROTOCOL = Protocol(
    name="imagenet",
    note=__doc__,
    setup=Setup(
        network=VGG_A,
        scale=Scale(resolution=224, channels=3, classes=1000, width=1.0),
        recipe=Recipe(
            epochs=74,
            batch_size=256,
            learning_rate=0.01,
            momentum=0.9,
            weight_decay=5e-4,
            schedule="plateau",
            patience=5,  # epochs; the paper gives no number
            augmentation="crop-flip-colour",
            side_from=8 / 7,  # 256 pixels for a crop of 224
            side_to=8 / 7,
        ),
        data=Data(source="folder", validation_fraction=0.01, keep="originals", bad_files="leave out"),
    ),
    seeds=(0, 1, 2),
    smallest_effect=0.3,
    families={
        "ResNet": {
            "recipe.epochs": 120,
            "recipe.learning_rate": 0.1,
            "recipe.weight_decay": 1e-4,
            "recipe.side_to": 15 / 7,  # 480 pixels
        },
    },
)
