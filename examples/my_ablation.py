"""Does label smoothing help a small network that trains itself?

An ablation is one file, anywhere:  ablate run examples/my_ablation.py --report  (two minutes on two cores).
Its folder is on Python's path, so the networks beside it are found by the name of their file.
"""

from ablations import Ablation, Arm, Helps
from lightning_modules.spec import Custom

# Arguments of `$channels` and `$classes` become the protocol's: the same file serves digits and CIFAR-10.
SCALE = {"channels": "$channels", "classes": "$classes"}


def network(smoothing: float) -> Custom:
    """The network that trains itself; `my_networks.small` in its place is trained by the protocol's recipe."""
    return Custom(class_path="my_networks.OwnTraining", init_args={**SCALE, "smoothing": smoothing})


ABLATION = Ablation(
    question="Does label smoothing help a small network that trains itself?",
    baseline=Arm("plain", {"network": network(0.0)}),
    arms=(Arm("smoothed", {"network": network(0.1)}),),
    varies=("network.init_args.smoothing",),  # another change, such as of the optimizer, is refused
    claims=(Helps(arm="smoothed", over="plain"),),
)
