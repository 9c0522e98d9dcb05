"""The named networks, exactly as the papers print them."""

from __future__ import annotations

from dataclasses import replace

from lightning_modules.spec import Conv, Stage, Vgg
from lightning_modules.values import InvalidValue, did_you_mean


def _stages(*kernels: tuple[int, ...]) -> tuple[Stage, ...]:
    widths = (64, 128, 256, 512, 512)
    return tuple(
        Stage(width=width, convs=tuple(Conv(kernel=kernel) for kernel in stage))
        for width, stage in zip(widths, kernels, strict=True)
    )


# Simonyan & Zisserman 2015, Table 1, columns A to E: the kernel sizes of the five stages.
VGG_A = Vgg(stages=_stages((3,), (3,), (3, 3), (3, 3), (3, 3)))
VGG_A_LRN = replace(VGG_A, norm="lrn-first")
VGG_B = Vgg(stages=_stages((3, 3), (3, 3), (3, 3), (3, 3), (3, 3)))
VGG_C = Vgg(stages=_stages((3, 3), (3, 3), (3, 3, 1), (3, 3, 1), (3, 3, 1)))
VGG_D = Vgg(stages=_stages((3, 3), (3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)))
VGG_E = Vgg(stages=_stages((3, 3), (3, 3), (3, 3, 3, 3), (3, 3, 3, 3), (3, 3, 3, 3)))

NETWORKS: dict[str, Vgg] = {
    "vgg-a": VGG_A,
    "vgg-a-lrn": VGG_A_LRN,
    "vgg-b": VGG_B,
    "vgg-c": VGG_C,
    "vgg-d": VGG_D,
    "vgg-e": VGG_E,
}


def network(name: str) -> Vgg:
    """The network of that name.

    Raises:
        InvalidValue: where the catalogue has none, with the nearest name and all names.
    """
    if name not in NETWORKS:
        raise InvalidValue(
            f"No network named {name!r}.{did_you_mean(name, NETWORKS)} There are: {', '.join(NETWORKS)}."
        )
    return NETWORKS[name]
