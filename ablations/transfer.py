"""Do features learned on other images help: as they are, under a linear classifier, or fine-tuned?"""

from ablations import Ablation, Arm, ByData, Helps
from lightning_modules.catalogue import VGG_A
from lightning_modules.spec import Data, Elsewhere, Leaf, WarmStart

PAPER = "Simonyan & Zisserman 2015, Sect. B"
ALL_BUT_LAST = ("stage1", "stage2", "stage3", "stage4", "stage5", "head.fc1", "head.fc2")
# A fifth of the photographs: all of them would take five times as long under the recipe for 600 digits.
CIFAR_10 = Elsewhere(data=Data(source="cifar10", train_fraction=0.2), classes=10)
DIGITS = Elsewhere(data=Data(source="digits", validation_fraction=0.2), classes=10)
# As in the protocol `digits`: a recipe for many photographs takes too few steps on so few digits to learn them.
STEPS: dict[str, Leaf] = {"epochs": 50, "batch_size": 32, "learning_rate": 0.025, "warmup": 0.3, "clip_norm": 1.0}
IMAGES: dict[str, Leaf] = {"schedule": "cosine", "augmentation": "shift", "side_from": 0.0, "side_to": 0.0}
PRETRAINED = ByData(
    digits=WarmStart(network=VGG_A, layers=ALL_BUT_LAST, on=CIFAR_10),
    others=WarmStart(network=VGG_A, layers=ALL_BUT_LAST, recipe={**STEPS, **IMAGES}, on=DIGITS),
)
CLASSIFIER = {"network": VGG_A, "recipe.trains": "linear classifier"}

ABLATION = Ablation(
    question=__doc__,
    baseline=Arm("random features", CLASSIFIER),
    arms=(
        Arm("frozen features", {**CLASSIFIER, "start": PRETRAINED}),
        Arm("fine-tuned", {"network": VGG_A, "recipe.trains": "network", "start": PRETRAINED}),
    ),
    varies=("start", "recipe.trains"),
    claims=(
        Helps(
            arm="frozen features",
            over="random features",
            source=PAPER,
            caveat="the paper's features come from 1.3 million photographs of 1,000 classes",
        ),
        Helps(arm="fine-tuned", over="frozen features", caveat="the paper fine-tunes no network"),
    ),
)
