"""Full-width networks on CIFAR-10 at 32 pixels, with the paper's fully connected head.

Claim: the protocol for a publishable result: every arm trains long enough to be compared with published figures.
Cost: meant for one GPU or more; 100 epochs of 45,000 images per trial, five seeds.
Command: ``make study-depth PROTOCOL=cifar10 GPUS_PER_TRIAL=1``

The recipe is the VGG paper's (SGD, momentum 0.9, weight decay 5e-4, dropout 0.5), adapted to 50,000 images of 32
pixels: batch 128, shifts of up to 4 pixels and mirroring, a cosine schedule. Warm-up and clipping of the gradient at
norm 1 were found necessary under the ``digits`` protocol, for networks of 16 layers and more without batch norm, and
apply to every arm alike. Plain and residual networks follow their own paper instead (He et al. 2016, Sect. 4.2): rate
0.1, weight decay 1e-4, no clipping; under the same schedule.
"""

from lightning_modules.catalogue import VGG_A
from lightning_modules.spec import Data, Recipe, Scale, Setup
from studies.protocols._protocol import Protocol

PROTOCOL = Protocol(
    name="cifar10",
    note=__doc__,
    setup=Setup(
        network=VGG_A,
        scale=Scale(resolution=32, channels=3, classes=10, width=1.0),
        recipe=Recipe(
            epochs=100,
            batch_size=128,
            learning_rate=0.05,
            warmup=0.05,  # 5 of 100 epochs
            clip_norm=1.0,
            augmentation="shift-flip",
            precision="bfloat16",
        ),
        data=Data(source="cifar10", validation_fraction=0.1),  # 45,000 images to train on, 5,000 to validate
    ),
    seeds=(0, 1, 2, 3, 4),
    smallest_effect=0.3,
    # Learning rate, weight decay and no clipping, as in He et al. 2016, Sect. 4.2.
    families={"ResNet": {"recipe.learning_rate": 0.1, "recipe.weight_decay": 1e-4, "recipe.clip_norm": 0.0}},
)
