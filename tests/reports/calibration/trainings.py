"""Made-up trainings with the traits of real ones: skewed, correlated over seeds, unequal noise, whole examples."""

import numpy as np

from ablations import FallsWith
from reports.calibration.cases import Trainings

ARMS = ("A", "B", "D", "E")
RESOLUTION = 100 / 360


def make_trainings(num_trainings=24, arms=ARMS, seed=0, *, equal=False):
    random = np.random.default_rng(seed)
    shape = (len(arms), num_trainings)
    noise = random.normal(size=shape) if equal else random.gamma(2.0, 1.0, size=shape)
    scales = np.ones(len(arms)) if equal else np.linspace(0.6, 1.6, len(arms))
    errors = 6 + np.arange(len(arms))[:, None] + scales[:, None] * noise + 0.4 * random.normal(size=num_trainings)
    if not equal:
        errors = np.round(errors / RESOLUTION) * RESOLUTION
    return Trainings(
        study="depth",
        protocol="digits",
        arms=tuple(arms),
        claims=(FallsWith(order=tuple(arms)),) if len(arms) > 1 else (),
        errors=errors,
        num_left_out=0,
        smallest_effect=0.5,
        resolution=0.0 if equal else RESOLUTION,
    )
