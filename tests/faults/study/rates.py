"""Does a fifth of dropout serve a narrow network of eleven layers better than half of it?"""

from ablations import Ablation, Arm, Helps
from lightning_modules.specs.networks import Custom


def network(dropout):
    arguments = {"channels": "$channels", "classes": "$classes", "dropout": dropout}
    return {"network": Custom(class_path="vulnerable.network", init_args=arguments)}


ABLATION = Ablation(
    question=__doc__,
    baseline=Arm("half", network(0.5)),
    arms=(Arm("fifth", network(0.2)),),
    varies=("network",),
    claims=(Helps(arm="fifth", over="half"),),
)
