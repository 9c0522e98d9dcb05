"""The design of a study: trials, tuning budget, contract and estimates, all before anything runs.

Imports ``protocols`` and ``hardware``.
"""
