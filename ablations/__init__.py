"""What changes: the one-change contract, the claims, and one small file per ablation.

An ablation's file imports from here all it needs besides the specs (``lightning_modules.spec``) and the named networks
(``lightning_modules.catalogue``).
"""

from ablations._arms import REDRAW_PATHS, Arm, Placebo
from ablations._claims import (
    CLAIM_CLASSES,
    ENDPOINT_LABELS,
    ENDPOINTS,
    ERROR_ENDPOINTS,
    AllOf,
    Caveat,
    Claim,
    DoesNotHelp,
    Endpoint,
    FallsWith,
    Helps,
    HelpsBy,
    Metric,
    Reverses,
    SaturatesAt,
    capitalize_first,
    change_verbs,
    endpoint_label,
)
from ablations._components import Component, ComponentContrast, ComponentDesign, DesignKind
from ablations._conditional import ByData, ByResolution, Times
from ablations._contract import Ablation
from ablations._designs import AddOne, LeaveOneOut, StepByStep
from ablations._differences import (
    Difference,
    compare_setups,
    confounding_forced_paths,
    group_differences,
    summarize_differences,
    summarize_paths,
)
from ablations._discovery import (
    ablation_name,
    find_import_paths,
    load,
    module_name,
    names,
    protect_own_packages,
    require_valid_file_name,
)
from ablations._errors import InvalidAblation, NotASingleChange, UnknownAblation
from ablations._factorial import Factor, Factorial
from ablations._paths import paths_overlap
from ablations._property_contrast import (
    PROPERTIES,
    PROPERTY_LABELS,
    UNCONFOUNDED_TOLERANCE,
    Property,
    PropertyChange,
    PropertyContrast,
    compare_properties,
)
from ablations._reference import Reference
from ablations._replications import (
    DEGRADATION_REPLICATIONS,
    DEPTH_REPLICATIONS,
    FAMILY_REPLICATIONS,
    NORMALIZATION_REPLICATIONS,
    RESIDUAL_REPLICATIONS,
    ReplicatedError,
    Replication,
)

__all__ = [  # noqa: RUF022 - by purpose: first what an ablation's file needs, then what studies and reports need
    # An ablation and its arms
    "Ablation",
    "Arm",
    "Placebo",
    "Factor",
    "Factorial",
    "Component",
    "LeaveOneOut",
    "AddOne",
    "StepByStep",
    "Reference",
    "Replication",
    "ReplicatedError",
    "DEGRADATION_REPLICATIONS",
    "DEPTH_REPLICATIONS",
    "FAMILY_REPLICATIONS",
    "NORMALIZATION_REPLICATIONS",
    "RESIDUAL_REPLICATIONS",
    # What a generated design records
    "ComponentContrast",
    "ComponentDesign",
    "DesignKind",
    # Values of an arm's edits that depend on the protocol
    "ByData",
    "ByResolution",
    "Times",
    # Claims
    "Caveat",
    "Claim",
    "Helps",
    "DoesNotHelp",
    "HelpsBy",
    "FallsWith",
    "SaturatesAt",
    "Reverses",
    "AllOf",
    "CLAIM_CLASSES",
    "Endpoint",
    "ENDPOINTS",
    "ENDPOINT_LABELS",
    "ERROR_ENDPOINTS",
    "Metric",
    "capitalize_first",
    "change_verbs",
    "endpoint_label",
    # Finding and loading
    "names",
    "load",
    "ablation_name",
    "find_import_paths",
    "module_name",
    "protect_own_packages",
    "require_valid_file_name",
    # Errors
    "InvalidAblation",
    "NotASingleChange",
    "UnknownAblation",
    # Differences between setups
    "Difference",
    "compare_setups",
    "confounding_forced_paths",
    "REDRAW_PATHS",
    "group_differences",
    "paths_overlap",
    "summarize_differences",
    "summarize_paths",
    # Contrasts between instantiated networks
    "Property",
    "PROPERTIES",
    "PROPERTY_LABELS",
    "PropertyChange",
    "PropertyContrast",
    "UNCONFOUNDED_TOLERANCE",
    "compare_properties",
]
