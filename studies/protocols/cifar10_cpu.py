"""Networks of an eighth of their width on CIFAR-10 at 32 pixels, trained briefly.

Claim: a complete study of photographs on a machine without a GPU. Narrow networks and 20 epochs show the tendencies of
the full-width study, not its figures.
Cost: `depth` with its three seeds, 12 trials, takes less than 40 minutes on two cores.
Command: ``make study-depth PROTOCOL=cifar10-cpu DATA_ROOT=data``

The recipe is that of ``cifar10`` with fewer epochs and a longer share of warm-up; plain and residual networks keep half
of their width, which is small as it is.
"""

from lightning_modules.catalogue import VGG_A
from lightning_modules.spec import Data, Recipe, Scale, Setup
from studies.protocols._protocol import Protocol

PROTOCOL = Protocol(
    name="cifar10-cpu",
    note=__doc__,
    setup=Setup(
        network=VGG_A,
        scale=Scale(resolution=32, channels=3, classes=10, width=0.125),
        recipe=Recipe(
            epochs=20,
            batch_size=128,
            learning_rate=0.05,
            warmup=0.15,  # 3 of 20 epochs
            clip_norm=1.0,
            augmentation="shift-flip",
            precision="bfloat16",
        ),
        data=Data(source="cifar10", validation_fraction=0.1),  # 45,000 images to train on, 5,000 to validate
    ),
    seeds=(0, 1, 2),
    smallest_effect=0.5,
    families={
        "ResNet": {
            "scale.width": 0.5,  # 8, 16 and 32 channels
            "recipe.learning_rate": 0.1,
            "recipe.weight_decay": 1e-4,
            "recipe.clip_norm": 0.0,
        },
    },
)
