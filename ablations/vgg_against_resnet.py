"""Which family errs less under one recipe, VGG or residual networks, and what does each network cost?"""

from dataclasses import replace

from ablations import FAMILY_REPLICATIONS, Ablation, Arm, ByResolution, Helps, Reference
from lightning_modules import catalogue

PAPER = "He et al. 2016, Sect. 4.1"
VGG_16, VGG_19 = (replace(network, norm="batch") for network in (catalogue.VGG_D, catalogue.VGG_E))
SMALLEST, MIDDLE, LARGEST = "ResNet-20/18", "ResNet-32/34", "ResNet-56/50"  # at 32 pixels / at 224

ABLATION = Ablation(
    question=__doc__,
    # The baseline's family decides the protocol's recipe: He et al.'s, which batch norm makes fit for VGG networks.
    baseline=Arm(SMALLEST, {"network": ByResolution(small=catalogue.RESNET_20, large=catalogue.RESNET_18)}),
    arms=(
        Arm(MIDDLE, {"network": ByResolution(small=catalogue.RESNET_32, large=catalogue.RESNET_34)}),
        Arm(LARGEST, {"network": ByResolution(small=catalogue.RESNET_56, large=catalogue.RESNET_50_V1)}),
        Arm("VGG-16", {"network": VGG_16}),
        Arm("VGG-19", {"network": VGG_19}),
    ),
    varies=("network",),
    claims=(
        Helps(arm=LARGEST, over="VGG-19", source=PAPER),
        Helps(arm=SMALLEST, over="VGG-16", endpoint="memory"),
    ),
    reference=ByResolution(
        small=Reference(
            source="He et al. 2016, Table 6",
            quantity="error on CIFAR-10 test, percent, with augmentation",
            values={SMALLEST: 8.75, MIDDLE: 7.51, LARGEST: 6.97},
            caveat="one run per network; the table has no VGG network",
        ),
        large=Reference(
            source="He et al. 2016, Table 3",
            quantity="top-1 error on ILSVRC-2012 validation, 10-crop, percent",
            values={"VGG-16": 28.07, MIDDLE: 24.52, LARGEST: 22.85},
            caveat="VGG-16 without batch norm, under the VGG paper's recipe; one run per network",
        ),
    ),
    replications=FAMILY_REPLICATIONS,
)
