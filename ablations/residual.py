"""Do plain networks get worse with depth, and do identity shortcuts reverse it?"""

from ablations import RESIDUAL_REPLICATIONS, Ablation, Arm, ByResolution, Factor, Factorial, Helps, Reference, Reverses
from lightning_modules import catalogue

PAPER = "He et al. 2016, Sect. 4.1"
SMALL = Reference(
    source="He et al. 2016, Table 6",
    quantity="error on CIFAR-10 test, percent, with augmentation",
    values={"residual shallow": 8.75, "residual deep": 6.97},
    caveat="one run per network; for the plain ones no figures are printed",
)
LARGE = Reference(
    source="He et al. 2016, Table 2",
    quantity="top-1 error on ILSVRC-2012 validation, 10-crop, percent",
    values={"plain shallow": 27.94, "plain deep": 28.54, "residual shallow": 27.88, "residual deep": 25.03},
    caveat="one run per network",
)

ABLATION = Ablation(
    question=__doc__,
    baseline=Arm("plain shallow", {"network": ByResolution(small=catalogue.PLAIN_20, large=catalogue.PLAIN_18)}),
    arms=(
        Arm("plain deep", {"network": ByResolution(small=catalogue.PLAIN_56, large=catalogue.PLAIN_34)}),
        Arm("residual shallow", {"network": ByResolution(small=catalogue.RESNET_20, large=catalogue.RESNET_18_A)}),
        Arm("residual deep", {"network": ByResolution(small=catalogue.RESNET_56, large=catalogue.RESNET_34_A)}),
    ),
    varies=("network.stages", "network.shortcut"),
    factorial=Factorial(
        rows=Factor(name="shortcuts", levels=("plain", "residual")),
        columns=Factor(name="depth", levels=("shallow", "deep")),
        cells=(("plain shallow", "plain deep"), ("residual shallow", "residual deep")),
    ),
    claims=(
        Reverses(worse=("plain shallow", "plain deep"), better=("residual shallow", "residual deep"), source=PAPER),
        Helps(arm="residual deep", over="plain deep", source=PAPER),
    ),
    reference=ByResolution(small=SMALL, large=LARGE),
    replications=RESIDUAL_REPLICATIONS,
)
