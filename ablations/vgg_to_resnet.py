"""What does each step contribute on the way from the VGG paper's D to a residual network of as many layers?"""

from dataclasses import replace

from ablations import Arm, Component, StepByStep
from lightning_modules.catalogue import VGG_D
from lightning_modules.spec import Blocks, Head, ResNet

AVERAGE = Head(pooling="average", widths=(), dropout=0.0)

# The 13 convolutions of D: a stem, and six blocks of two. Strides take the place of the poolings.
BLOCKS = ((64, 1), (128, 1), (256, 1), (512, 1), (512, 2))  # width and number of blocks of the five stages
PLAIN = ResNet(
    stem="3x3",
    block="basic",
    stages=tuple(Blocks(width=width, count=count) for width, count in BLOCKS),
    shortcut="none",
)
RESIDUAL = replace(PLAIN, shortcut="identity")

ABLATION = StepByStep(
    question=__doc__,
    base=Arm("VGG-D", {"network": VGG_D}),
    target=Arm("residual network", {"network": RESIDUAL}),
    steps=(
        Component("batch norm", {"network.norm": "batch"}, source="Ioffe & Szegedy 2015"),
        Component("no dropout", {"network.head.dropout": 0.0}, helps=False, source="Krizhevsky et al. 2012, Sect. 4.2"),
        Component("global pooling", {"network.head": AVERAGE}, helps=False),
        Component("blocks with strides", {"network": PLAIN}, helps=False),
        Component("residual sums", {"network": RESIDUAL}, source="He et al. 2016, Sect. 3.2"),
    ),
)
