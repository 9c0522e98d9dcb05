"""Does a good initializer make the paper's warm start from a trained A unnecessary?"""

from dataclasses import replace

from ablations import Ablation, Arm, DoesNotHelp, Helps, Times
from lightning_modules.catalogue import VGG_A, VGG_D
from lightning_modules.spec import WarmStart

PAPER = "Simonyan & Zisserman 2015, Sect. 3.1"
GLOROT = replace(VGG_D, init="glorot")
SOURCE = replace(VGG_A, init="glorot")
# From pixels of unit variance, at 224 pixels and full width, D's logits have a standard deviation of 3·10^8 under the
# Gaussian of variance 0.01, as the paper prints it, and of 3·10^-8 under that of standard deviation 0.01. At an eighth
# of the width the roles change: a standard deviation of 0.1 is close to He's rule, and under 0.01 the signal vanishes.
COPIED = ("stage1.conv1", "stage2.conv1", "stage3.conv1", "stage3.conv2", "head")  # A's first four, and the head

ABLATION = Ablation(
    question=__doc__,
    baseline=Arm("Glorot", {"network": GLOROT}),
    arms=(
        Arm("He", {"network": VGG_D}),
        Arm("orthogonal", {"network": replace(VGG_D, init="orthogonal")}),
        Arm("Gaussian of variance 0.01", {"network": replace(VGG_D, init="gaussian-variance-0.01")}),
        Arm("Gaussian of deviation 0.01", {"network": replace(VGG_D, init="gaussian-deviation-0.01")}),
        Arm("warm start", {"network": GLOROT, "start": WarmStart(network=SOURCE, layers=COPIED)}),
        Arm("Glorot at equal budget", {"network": GLOROT, "recipe.epochs": Times(2)}),
    ),
    varies=("network.init", "start"),
    forced={"recipe.epochs": "the control trains for as many epochs as the warm start and its source network together"},
    claims=(
        DoesNotHelp(arm="warm start", over="Glorot", source=PAPER),
        Helps(arm="warm start", over="Glorot", endpoint="trainability"),
        Helps(
            arm="Glorot",
            over="Gaussian of variance 0.01",
            endpoint="trainability",
            source=PAPER,
            caveat="pixels of unit variance; in narrow networks a variance of 0.01 is close to what He's rule gives",
        ),
    ),
)
