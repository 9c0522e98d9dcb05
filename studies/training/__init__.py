"""Train or evaluate one trial, alone on any machine.

No Ray, no MLflow, no Optuna.

Imports ``design``, ``records`` and ``storage``.
"""
