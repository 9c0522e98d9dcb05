"""Write autorank's and scipy's figures on made-up results, which `ablate judge` is compared with.

autorank is no dependency: in an environment of its own, ``pip install autorank`` and run this file.
"""

import json
import warnings
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.stats
from autorank import autorank

FIGURES_FILE = Path(__file__).with_name("autorank.json")


def make_cases():
    """Errors of arms under common seeds: seeds shift all arms alike."""
    random = np.random.default_rng(20261127)
    for name, arms, num_seeds, shift in (
        ("clear", 2, 8, -1.2),
        ("close", 2, 6, -0.2),
        ("equal", 2, 12, 0.0),
        ("three arms", 3, 8, -0.6),
    ):
        seeds = random.normal(size=(1, num_seeds))
        values = 10 + seeds + 0.5 * random.normal(size=(arms, num_seeds)) + shift * np.arange(arms)[:, None]
        yield name, values.round(3)


def describe_case(name, values):
    """What autorank and scipy say of arms x seeds."""
    arms = [chr(ord("A") + row) for row in range(len(values))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ranked = autorank(pd.DataFrame(values.T, columns=arms), alpha=0.05, verbose=False, force_mode="parametric")
    table = ranked.rankdf.loc[arms]
    test = scipy.stats.ttest_rel(values[1], values[0])
    interval = test.confidence_interval(0.95)
    return {
        "name": name,
        "values": dict(zip(arms, values.tolist(), strict=True)),
        "autorank": {
            "test": ranked.omnibus,
            "p_value": float(ranked.pvalue),
            "mean": table["mean"].tolist(),
            "standard_deviation": table["std"].tolist(),
        },
        "scipy": {
            "p_value_of_a_and_b": float(test.pvalue),
            "interval_of_a_and_b": [float(interval.low), float(interval.high)],
        },
    }


if __name__ == "__main__":
    versions = {name: metadata.version(name) for name in ("autorank", "scipy", "numpy")}
    cases = [describe_case(*case) for case in make_cases()]
    FIGURES_FILE.write_text(json.dumps({"versions": versions, "cases": cases}, indent=1) + "\n", encoding="utf-8")
