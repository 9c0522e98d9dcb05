"""Which parts of the VGG paper's training recipe does its network need, each left out alone?"""

from ablations import Arm, ByResolution, Component, LeaveOneOut
from lightning_modules.catalogue import VGG_A, VGG_D

KRIZHEVSKY = "Krizhevsky et al. 2012"  # from where the VGG paper takes the recipe (Sect. 3.1)
NO_AUGMENTATION = {"recipe.augmentation": "none", "recipe.side_from": 0.0, "recipe.side_to": 0.0}  # images as stored
RECIPE = {
    "network": ByResolution(small=VGG_A, large=VGG_D),
    "recipe.momentum": 0.9,
    "recipe.weight_decay": 5e-4,
    "recipe.schedule": ByResolution(small="cosine", large="plateau"),
}

ABLATION = LeaveOneOut(
    question=__doc__,
    full=Arm("the recipe", RECIPE),
    components=(
        Component("momentum", {"recipe.momentum": 0.0}),
        Component("weight decay", {"recipe.weight_decay": 0.0}, source=f"{KRIZHEVSKY}, Sect. 5"),
        Component("dropout", {"network.head.dropout": 0.0}, source=f"{KRIZHEVSKY}, Sect. 4.2"),
        Component("augmentation", NO_AUGMENTATION, source=f"{KRIZHEVSKY}, Sect. 4.1"),
        Component("falling learning rate", {"recipe.schedule": "constant"}),
    ),
)
