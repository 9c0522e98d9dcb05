"""The LightningModules, their running metrics and learning-rate schedules.

Imports ``specs``, ``networks`` and ``distributed``.
"""
