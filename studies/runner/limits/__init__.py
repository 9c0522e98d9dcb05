"""Limits of a start: the budget, the forecast of what trials will spend, and the gate that starts whole seeds.

Imports no other module of the runner.
"""
