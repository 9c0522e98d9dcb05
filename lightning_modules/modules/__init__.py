"""The LightningModules, their steps, running metrics and learning-rate schedules.

Imports ``specs``, ``networks`` and ``distributed``.
"""
