"""What changes: the one-change contract, the claims, and one small file per ablation."""

from ablations._claims import (
    CLAIM_KINDS,
    ENDPOINT_WORDS,
    ENDPOINTS,
    AllOf,
    Claim,
    DoesNotHelp,
    Endpoint,
    FallsWith,
    Helps,
    HelpsBy,
    Reverses,
    SaturatesAt,
)
from ablations._contract import (
    Ablation,
    Arm,
    Difference,
    InvalidAblation,
    NotASingleChange,
    Reference,
    differences,
    summarise,
)
from ablations._discovery import UnknownAblation, load, names

__all__ = [
    "CLAIM_KINDS",
    "ENDPOINTS",
    "ENDPOINT_WORDS",
    "Ablation",
    "AllOf",
    "Arm",
    "Claim",
    "Difference",
    "DoesNotHelp",
    "Endpoint",
    "FallsWith",
    "Helps",
    "HelpsBy",
    "InvalidAblation",
    "NotASingleChange",
    "Reference",
    "Reverses",
    "SaturatesAt",
    "UnknownAblation",
    "differences",
    "load",
    "names",
    "summarise",
]
