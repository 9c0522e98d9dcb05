"""A narrow VGG-A that obeys an order found beside this file: to raise, to hang, or to ask for too much memory."""

import resource
import time
from dataclasses import replace
from pathlib import Path

import torch

from lightning_modules.networks.build import build_network
from lightning_modules.specs.catalogue import VGG_A
from lightning_modules.specs.scale import Scale

ORDER = Path(__file__).with_name("order")
ROOM_BYTES = 2**28  # above what the process has mapped already


def network(channels, classes, dropout):
    scale = Scale(resolution=32, channels=channels, classes=classes, width=0.0625)
    built = build_network(replace(VGG_A, norm="batch", head=replace(VGG_A.head, dropout=dropout)), scale)
    built.register_forward_pre_hook(obey)
    return built


def obey(module, inputs):
    """Do as ordered; an order is for one trial, once."""
    if not (module.training and ORDER.exists()):
        return
    taken = ORDER.with_name("order-taken")
    try:
        ORDER.rename(taken)
    except FileNotFoundError:
        return
    {"raise": fail, "hang": hang, "bytes": fill_bytes, "tensors": fill_tensors}[taken.read_text()]()


def fail():
    raise RuntimeError("as ordered")


def hang():
    time.sleep(10**6)


def fill_bytes():
    limit()
    return [bytearray(2**24) for _ in range(100)]


def fill_tensors():
    limit()
    return [torch.ones(2**22) for _ in range(100)]


def limit():
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    room = pages * resource.getpagesize() + ROOM_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
