"""Analysis of a study's trials: arms, outcomes, confounds, pairing integrity, sensitivity.

Imports ``statistics`` and ``formatting``.
"""
