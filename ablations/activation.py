"""Do saturating activations starve the early layers of gradient, and does it cost error?"""

from dataclasses import replace

from ablations import Ablation, Arm, DoesNotHelp, FallsWith, Helps
from lightning_modules.catalogue import VGG_A

PAPER = "Glorot & Bengio 2010; Krizhevsky et al. 2012, Sect. 3.1"

ABLATION = Ablation(
    question=__doc__,
    baseline=Arm("ReLU", {"network": VGG_A}),
    arms=(
        Arm("GELU", {"network": replace(VGG_A, activation="gelu")}),
        Arm("tanh", {"network": replace(VGG_A, activation="tanh")}),
        Arm("sigmoid", {"network": replace(VGG_A, activation="sigmoid")}),
    ),
    varies=("network.activation",),
    claims=(
        FallsWith(order=("ReLU", "tanh", "sigmoid"), endpoint="gradient_norm", source=PAPER),
        Helps(arm="ReLU", over="sigmoid", endpoint="trainability", source=PAPER),
        Helps(arm="ReLU", over="tanh", source=PAPER),
        DoesNotHelp(arm="GELU", over="ReLU"),
    ),
)
