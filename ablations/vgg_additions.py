"""Which of the ideas that came after the VGG paper improves its network on its own?"""

from ablations import AddOne, Arm, ByResolution, Component
from lightning_modules.catalogue import VGG_A, VGG_D
from lightning_modules.spec import Head

AVERAGE = Head(pooling="average", widths=(), dropout=0.0)

ABLATION = AddOne(
    question=__doc__,
    base=Arm("VGG", {"network": ByResolution(small=VGG_A, large=VGG_D)}),
    components=(
        Component("batch norm", {"network.norm": "batch"}, source="Ioffe & Szegedy 2015"),
        Component("global pooling", {"network.head": AVERAGE}, source="Lin et al. 2014, Sect. 3.2"),
        Component(
            "strided convolutions", {"network.pooling": "strided"}, helps=False, source="Springenberg et al. 2015"
        ),
        Component("GELU", {"network.activation": "gelu"}, source="Hendrycks & Gimpel 2016"),
    ),
)
