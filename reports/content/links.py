"""Links within a page: from a claim to the rows of its arms and the figure, and back."""

from __future__ import annotations

from collections.abc import Sequence

from ablations import Claim
from lightning_modules.specs.text import format_count
from reports.comparison.claims import JudgedClaim
from reports.comparison.comparison import Comparison
from reports.figures.seeds import DECISIVE_FIGURE

MAX_LINKED_ARMS = 8  # of a claim; of more arms, the table is linked
MAX_LINKED_CLAIMS = 6  # of an arm
RESULTS_ANCHOR = "table-results"

Link = tuple[str, str]  # words and address


def arm_anchor(index: int) -> str:
    """Id of the row of an arm in the table of results."""
    return f"arm-{index + 1}"


def claim_anchor(index: int) -> str:
    """Id of a claim."""
    return f"claim-{index + 1}"


def claim_links(comparison: Comparison, claim: JudgedClaim, figure_names: Sequence[str]) -> tuple[Link, ...]:
    """Where a page shows what a claim was judged by."""
    arms = claim.claim.arms
    if len(arms) <= MAX_LINKED_ARMS:
        links = [(arm, f"#{arm_anchor(comparison.registration.arms.index(arm))}") for arm in arms]
    else:
        links = [(f"its {format_count(len(arms), 'arm')}", f"#{RESULTS_ANCHOR}")]
    if DECISIVE_FIGURE in figure_names and _reads_test_error(claim.claim):
        links.append(("figure", f"#figure-{DECISIVE_FIGURE}"))
    return tuple(links)


def arm_links(comparison: Comparison, arm: str) -> tuple[Link, ...]:
    """The claims that read an arm."""
    links = []
    for index, judged in enumerate(comparison.claims):
        if arm in judged.claim.arms:
            links.append((f"claim {index + 1}", f"#{claim_anchor(index)}"))
    return tuple(links) if len(links) <= MAX_LINKED_CLAIMS else ((f"{len(links)} claims", "#claims"),)


def _reads_test_error(claim: Claim) -> bool:
    return any(conjunct.endpoint == "test_error" for conjunct in claim.conjuncts)
