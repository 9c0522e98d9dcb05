"""Comparison of arms: verdicts of one study, agreement of two runs, and seed planning.

Imports ``analysis``, ``statistics`` and ``formatting``.
"""
