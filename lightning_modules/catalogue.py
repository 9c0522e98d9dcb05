"""The named networks, exactly as the papers print them."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from lightning_modules.spec import Blocks, Conv, Custom, Network, ResNet, Stage, Vgg
from lightning_modules.values import InvalidValue, did_you_mean

WIDTHS = (64, 128, 256, 512, 512)


def stages(*kernels: tuple[int, ...], activate: bool = True, widths: tuple[int, ...] = WIDTHS) -> tuple[Stage, ...]:
    """The stages of a VGG network from the kernel sizes of each; ``activate`` is about all but a stage's last one."""
    return tuple(
        Stage(
            width=width,
            convs=(*(Conv(kernel=kernel, activate=activate) for kernel in stage[:-1]), Conv(kernel=stage[-1])),
        )
        for width, stage in zip(widths, kernels, strict=True)
    )


# Simonyan & Zisserman 2015, Table 1, columns A to E: the kernel sizes of the five stages.
VGG_A = Vgg(stages=stages((3,), (3,), (3, 3), (3, 3), (3, 3)))
VGG_A_LRN = replace(VGG_A, norm="lrn-first")
VGG_B = Vgg(stages=stages(*[(3, 3)] * 5))
VGG_C = Vgg(stages=stages((3, 3), (3, 3), (3, 3, 1), (3, 3, 1), (3, 3, 1)))
VGG_D = Vgg(stages=stages(*[(3, 3)] * 2, *[(3,) * 3] * 3))
VGG_E = Vgg(stages=stages(*[(3, 3)] * 2, *[(3,) * 4] * 3))
VGG_25 = Vgg(stages=stages(*[(3, 3)] * 2, *[(3,) * 6] * 3))  # from D to E each of the last three stages gains a layer;
VGG_31 = Vgg(stages=stages(*[(3, 3)] * 2, *[(3,) * 8] * 3))  # these go on by the same rule, two and four steps beyond
VGG_B_5X5 = Vgg(stages=stages(*[(5,)] * 5))  # Sect. 4.1: each pair of 3×3 as one 5×5


def _at_224(counts: tuple[int, ...], shortcut: Literal["none", "identity", "projection", "projection-all"]) -> ResNet:
    """He et al. 2016, Table 1, of basic blocks."""
    blocks = tuple(Blocks(width=width, count=count) for width, count in zip((64, 128, 256, 512), counts, strict=True))
    return ResNet(stem="7x7", block="basic", stages=blocks, shortcut=shortcut)


def _at_32(layers: int, shortcut: Literal["none", "identity"]) -> ResNet:
    """He et al. 2016, Sect. 4.2: 6n + 2 layers in three stages."""
    blocks = tuple(Blocks(width=width, count=(layers - 2) // 6) for width in (16, 32, 64))
    return ResNet(stem="3x3", block="basic", stages=blocks, shortcut=shortcut)


SHALLOW, DEEP = (2, 2, 2, 2), (3, 4, 6, 3)
PLAIN_18, PLAIN_34 = _at_224(SHALLOW, "none"), _at_224(DEEP, "none")
RESNET_18_A, RESNET_34_A = _at_224(SHALLOW, "identity"), _at_224(DEEP, "identity")  # as in Table 2
RESNET_18, RESNET_34 = _at_224(SHALLOW, "projection"), _at_224(DEEP, "projection")
RESNET_34_C = _at_224(DEEP, "projection-all")
RESNET_50 = replace(RESNET_34, block="bottleneck")
RESNET_101 = replace(_at_224((3, 4, 23, 3), "projection"), block="bottleneck")
RESNET_152 = replace(_at_224((3, 8, 36, 3), "projection"), block="bottleneck")

PLAIN_20, PLAIN_32, PLAIN_44, PLAIN_56, PLAIN_110 = (_at_32(layers, "none") for layers in (20, 32, 44, 56, 110))
RESNET_20, RESNET_32, RESNET_44, RESNET_56, RESNET_110 = (
    _at_32(layers, "identity") for layers in (20, 32, 44, 56, 110)
)

# torchvision's: AlexNet without LRN ("one weird trick", 63 pixels or more), GoogLeNet with its two auxiliary heads.
ALEXNET = Custom(class_path="torchvision.models.alexnet", init_args={"num_classes": "$classes"})
GOOGLENET = Custom(
    class_path="torchvision.models.googlenet",
    init_args={"num_classes": "$classes", "aux_logits": True, "init_weights": True},
    auxiliary_weight=0.3,  # Szegedy et al. 2015, Sect. 5
)

NETWORKS: dict[str, Network] = {
    "vgg-a": VGG_A,
    "vgg-a-lrn": VGG_A_LRN,
    "vgg-b": VGG_B,
    "vgg-b-5x5": VGG_B_5X5,
    "vgg-c": VGG_C,
    "vgg-d": VGG_D,
    "vgg-e": VGG_E,
    "vgg-25": VGG_25,
    "vgg-31": VGG_31,
    "plain-18": PLAIN_18,
    "plain-34": PLAIN_34,
    "resnet-18": RESNET_18,
    "resnet-18-a": RESNET_18_A,
    "resnet-34": RESNET_34,
    "resnet-34-a": RESNET_34_A,
    "resnet-34-c": RESNET_34_C,
    "resnet-50": RESNET_50,
    "resnet-101": RESNET_101,
    "resnet-152": RESNET_152,
    "plain-20": PLAIN_20,
    "plain-32": PLAIN_32,
    "plain-44": PLAIN_44,
    "plain-56": PLAIN_56,
    "plain-110": PLAIN_110,
    "resnet-20": RESNET_20,
    "resnet-32": RESNET_32,
    "resnet-44": RESNET_44,
    "resnet-56": RESNET_56,
    "resnet-110": RESNET_110,
    "alexnet": ALEXNET,
    "googlenet": GOOGLENET,
}


def network(name: str) -> Network:
    """The network of that name.

    Raises:
        InvalidValue: where the catalogue has none, with the nearest name and all names.
    """
    if name not in NETWORKS:
        raise InvalidValue(
            f"No network named {name!r}.{did_you_mean(name, NETWORKS)} There are: {', '.join(NETWORKS)}."
        )
    return NETWORKS[name]
