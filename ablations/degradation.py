"""Does the training error of a plain network rise with depth?"""

from ablations import DEGRADATION_REPLICATIONS, Ablation, Arm, FallsWith
from lightning_modules.catalogue import PLAIN_20, PLAIN_32, PLAIN_44, PLAIN_56

PAPER = "He et al. 2016, Sect. 4.2 and Fig. 6 (no figures printed)"
DEEPEST_FIRST = ("plain 56", "plain 44", "plain 32", "plain 20")

ABLATION = Ablation(
    question=__doc__,
    baseline=Arm("plain 20", {"network": PLAIN_20}),
    arms=(
        Arm("plain 32", {"network": PLAIN_32}),
        Arm("plain 44", {"network": PLAIN_44}),
        Arm("plain 56", {"network": PLAIN_56}),
    ),
    varies=("network.stages",),
    property_studied="weight_layers",
    claims=(
        FallsWith(order=DEEPEST_FIRST, endpoint="training_error", source=PAPER),
        FallsWith(order=DEEPEST_FIRST, source=PAPER),
    ),
    replications=DEGRADATION_REPLICATIONS,
)
