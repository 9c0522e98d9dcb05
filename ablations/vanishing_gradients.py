"""Does a plain network get worse with depth although its gradients do not vanish?"""

from ablations import Ablation, AllOf, Arm, DoesNotHelp, Helps
from lightning_modules.catalogue import PLAIN_20, PLAIN_56

PAPER = "He et al. 2016, Sect. 4.1"

ABLATION = Ablation(
    question=__doc__,
    baseline=Arm("plain 20", {"network": PLAIN_20}),
    arms=(Arm("plain 56", {"network": PLAIN_56}),),
    varies=("network.stages",),
    property_studied="weight_layers",
    claims=(
        AllOf(
            parts=(
                Helps(arm="plain 20", over="plain 56", endpoint="training_error"),
                DoesNotHelp(arm="plain 56", over="plain 20", endpoint="gradient_norm"),
            ),
            source=PAPER,
            caveat="the paper looks at the gradients of networks for 224 pixels, and prints none",
        ),
        DoesNotHelp(arm="plain 56", over="plain 20", endpoint="gradient_norm", source=PAPER),
    ),
)
