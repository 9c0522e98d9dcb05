"""And without any? Two of its arms are those of the other study: the same trials."""

from ablations import Ablation, Arm, Helps
from lightning_modules.specs.networks import Custom


def network(dropout):
    arguments = {"channels": "$channels", "classes": "$classes", "dropout": dropout}
    return {"network": Custom(class_path="vulnerable.network", init_args=arguments)}


ABLATION = Ablation(
    question=__doc__,
    baseline=Arm("half", network(0.5)),
    arms=(Arm("fifth", network(0.2)), Arm("none", network(0.0))),
    varies=("network",),
    claims=(Helps(arm="none", over="half"),),
)
