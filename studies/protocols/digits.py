"""Networks of an eighth of their width on scikit-learn's handwritten digits: 600 to train on, 1,197 to test on.

Claim: every ablation can be run, with paired seeds and real images, on any laptop and without a download. With so few
examples depth costs more than it gives: what holds here need not hold on ImageNet.
Cost: `depth` with its eight seeds, 32 trials, takes about four minutes on two cores.
Command: ``make study-depth``

The recipe is one for all arms. It was chosen by the error on validation, with seeds from 100 up, which no study uses by
default: among learning rates of 0.01, 0.02, 0.025, 0.03 and 0.05, batches of 16, 32 and 64, 30 to 70 epochs, warm-up
over 10% to 30% of the steps, and gradients clipped at 0.3, 0.5 and 1.0, it was the shortest under which the deepest
network, E, trained under each of eight seeds (validation error 2.5% to 11.7%). At 0.03 and 60 epochs one E of five
stayed at chance; with batches of 16, most did. bfloat16 trained as well, and faster where the processor has it. Under
Glorot's initializer instead of He's (the default for that reason) no E left chance at 0.025, 0.05, 0.1 or 0.2.

Eight seeds, by a pilot of `depth` with the ten seeds from 100 up: the error of E was 3.6 points above that of A, with a
standard deviation of 1.9 over pairs. Of 300 studies resampled from these seeds and those from 0 to 7, the claim of
`depth` gets a verdict in 65% with five seeds, and in 99% with eight.

Plain and residual networks have a recipe of their own, the same for all arms of a study: a quarter of their width (4, 8
and 16 channels), 30 epochs, a peak rate of 0.1 without clipping. At 0.05 the plain networks of 56 layers learn less.
"""

from lightning_modules.catalogue import VGG_A
from lightning_modules.spec import Data, Recipe, Scale, Setup
from studies.protocols._protocol import Protocol

PROTOCOL = Protocol(
    name="digits",
    note=__doc__,
    setup=Setup(
        network=VGG_A,
        scale=Scale(resolution=32, channels=1, classes=10, width=0.125),  # 8x8 digits, enlarged
        recipe=Recipe(
            epochs=50,
            batch_size=32,
            learning_rate=0.025,
            warmup=0.3,  # 15 of 50 epochs
            clip_norm=1.0,
            augmentation="shift",
        ),
        data=Data(source="digits", validation_fraction=0.2),  # 480 images to train on, 120 to validate
    ),
    seeds=tuple(range(8)),
    smallest_effect=0.5,
    families={
        "ResNet": {
            "scale.width": 0.25,  # 4, 8 and 16 channels
            "recipe.epochs": 30,
            "recipe.learning_rate": 0.1,
            "recipe.weight_decay": 1e-4,
            "recipe.warmup": 0.1,
            "recipe.clip_norm": 0.0,
        },
    },
)
