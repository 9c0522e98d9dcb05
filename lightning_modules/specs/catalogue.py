"""The named networks, as the papers print them unless a comment says otherwise."""

from __future__ import annotations

from dataclasses import replace

from lightning_modules.specs.errors import InvalidValue, did_you_mean
from lightning_modules.specs.networks import Blocks, BlockType, Conv, Custom, Network, ResNet, Shortcut, Stage, Vgg

VGG_WIDTHS = (64, 128, 256, 512, 512)


def vgg_stages(
    *kernel_sizes: tuple[int, ...], activate: bool = True, widths: tuple[int, ...] = VGG_WIDTHS
) -> tuple[Stage, ...]:
    """The stages of a VGG network.

    Args:
        kernel_sizes: of the convolutions of each stage.
        activate: whether an activation follows the inner convolutions; it always follows the last one of a stage.
        widths: of each stage.
    """
    stages = []
    for width, stage_kernels in zip(widths, kernel_sizes, strict=True):
        *inner_kernels, last_kernel = stage_kernels
        inner_convs = [Conv(kernel=kernel, activate=activate) for kernel in inner_kernels]
        stages.append(Stage(width=width, convs=(*inner_convs, Conv(kernel=last_kernel))))
    return tuple(stages)


# Simonyan & Zisserman 2015, Table 1, columns A to E: the kernel sizes of the five stages.
VGG_A = Vgg(stages=vgg_stages((3,), (3,), (3, 3), (3, 3), (3, 3)))
VGG_A_LRN = replace(VGG_A, norm="lrn-first")
VGG_B = Vgg(stages=vgg_stages(*[(3, 3)] * 5))
VGG_C = Vgg(stages=vgg_stages((3, 3), (3, 3), (3, 3, 1), (3, 3, 1), (3, 3, 1)))
VGG_D = Vgg(stages=vgg_stages((3, 3), (3, 3), *[(3,) * 3] * 3))
VGG_E = Vgg(stages=vgg_stages((3, 3), (3, 3), *[(3,) * 4] * 3))

# Not in the paper: from D to E each of the last three stages gains a layer; these gain two and four more.
VGG_25 = Vgg(stages=vgg_stages((3, 3), (3, 3), *[(3,) * 6] * 3))
VGG_31 = Vgg(stages=vgg_stages((3, 3), (3, 3), *[(3,) * 8] * 3))

# Sect. 4.1: the shallower network in which each pair of 3×3 convolutions of B is one 5×5 convolution.
VGG_B_5X5 = Vgg(stages=vgg_stages(*[(5,)] * 5))


def _imagenet_resnet(block_counts: tuple[int, ...], shortcut: Shortcut, block: BlockType = "basic") -> ResNet:
    """A network of He et al. 2016, Table 1, for 224 pixels."""
    stages = []
    for width, count in zip((64, 128, 256, 512), block_counts, strict=True):
        stages.append(Blocks(width=width, count=count))
    return ResNet(stem="7x7", block=block, stages=tuple(stages), shortcut=shortcut)


def _cifar_resnet(depth: int, shortcut: Shortcut) -> ResNet:
    """A network of He et al. 2016, Sect. 4.2, for 32 pixels: 6n + 2 layers in three stages."""
    blocks_per_stage = (depth - 2) // 6  # of two layers each, in three stages; the other two are stem and head
    stages = tuple(Blocks(width=width, count=blocks_per_stage) for width in (16, 32, 64))
    return ResNet(stem="3x3", block="basic", stages=stages, shortcut=shortcut)


# Blocks per stage, He et al. 2016, Table 1.
BLOCK_COUNTS_18 = (2, 2, 2, 2)
BLOCK_COUNTS_34 = (3, 4, 6, 3)
PLAIN_18 = _imagenet_resnet(BLOCK_COUNTS_18, "none")
PLAIN_34 = _imagenet_resnet(BLOCK_COUNTS_34, "none")

# Table 2 compares plain networks with identity shortcuts (option A), which add no parameters.
RESNET_18_A = _imagenet_resnet(BLOCK_COUNTS_18, "identity")
RESNET_34_A = _imagenet_resnet(BLOCK_COUNTS_34, "identity")

# Option B, which torchvision builds under these names.
RESNET_18 = _imagenet_resnet(BLOCK_COUNTS_18, "projection")
RESNET_34 = _imagenet_resnet(BLOCK_COUNTS_34, "projection")
RESNET_34_C = _imagenet_resnet(BLOCK_COUNTS_34, "projection-all")

# Bottlenecks in the blocks of Table 1. torchvision's (ResNet v1.5) halve the map in the 3×3 convolution: 4.1 billion
# multiply-adds for 50 layers. The paper's (v1) do so in the first 1×1: its 3.8 billion.
RESNET_50 = _imagenet_resnet(BLOCK_COUNTS_34, "projection", "bottleneck")
RESNET_101 = _imagenet_resnet((3, 4, 23, 3), "projection", "bottleneck")
RESNET_152 = _imagenet_resnet((3, 8, 36, 3), "projection", "bottleneck")
RESNET_50_V1 = replace(RESNET_50, halve_by="1x1")
RESNET_101_V1 = replace(RESNET_101, halve_by="1x1")
RESNET_152_V1 = replace(RESNET_152, halve_by="1x1")

# Sect. 4.2.
PLAIN_20 = _cifar_resnet(20, "none")
PLAIN_32 = _cifar_resnet(32, "none")
PLAIN_44 = _cifar_resnet(44, "none")
PLAIN_56 = _cifar_resnet(56, "none")
PLAIN_110 = _cifar_resnet(110, "none")
RESNET_20 = _cifar_resnet(20, "identity")
RESNET_32 = _cifar_resnet(32, "identity")
RESNET_44 = _cifar_resnet(44, "identity")
RESNET_56 = _cifar_resnet(56, "identity")
RESNET_110 = _cifar_resnet(110, "identity")

# torchvision's. AlexNet is the later one without LRN (Krizhevsky 2014, "One weird trick"), for 63 pixels or more.
ALEXNET = Custom(class_path="torchvision.models.alexnet", init_args={"num_classes": "$classes"})

# With its two auxiliary heads.
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
    "resnet-50-v1": RESNET_50_V1,
    "resnet-101-v1": RESNET_101_V1,
    "resnet-152-v1": RESNET_152_V1,
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


# Other names of the networks, in lower case and without hyphens: torchvision's, and that of its bottlenecks.
ALIASES = {
    "vgg11": "vgg-a", "vgg13": "vgg-b", "vgg16": "vgg-d", "vgg19": "vgg-e",
    "resnet50v1.5": "resnet-50", "resnet101v1.5": "resnet-101", "resnet152v1.5": "resnet-152",
}  # fmt: skip


def canonical_name(name: str) -> str:
    """Return a network's name in the catalogue: ``VGG16``, ``vgg-16`` and ``VGG_D`` are ``vgg-d``.

    A name that the catalogue does not have stays as it is.
    """
    known_names = {_without_separators(known): known for known in NETWORKS} | ALIASES
    return known_names.get(_without_separators(name), name)


def _without_separators(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "").replace(" ", "")


def find_network(name: str) -> Network:
    """Look up a network of the catalogue by name, or by an alias such as ``vgg16``.

    Raises:
        InvalidValue: if there is none of that name, with the nearest name and all names.
    """
    name = canonical_name(name)
    if name not in NETWORKS:
        raise InvalidValue(
            f"No network named {name!r}.{did_you_mean(name, NETWORKS)} There are: {', '.join(NETWORKS)}."
        )
    return NETWORKS[name]
