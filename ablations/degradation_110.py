"""Does a plain network of 110 layers train as well as one of 56?"""

from ablations import Ablation, Arm, Helps
from lightning_modules.catalogue import PLAIN_56, PLAIN_110

PAPER = "He et al. 2016, Sect. 4.2: its error is higher than 60% and not displayed"

ABLATION = Ablation(
    question=__doc__,
    baseline=Arm("plain 56", {"network": PLAIN_56}),
    arms=(Arm("plain 110", {"network": PLAIN_110}),),
    varies=("network.stages",),
    property_studied="weight_layers",
    claims=(
        Helps(arm="plain 56", over="plain 110", endpoint="training_error", source=PAPER),
        Helps(arm="plain 56", over="plain 110", endpoint="trainability", source=PAPER),
    ),
)
