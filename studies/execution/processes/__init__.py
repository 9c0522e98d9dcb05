"""Processes that train: the fork server, a trial or several of an arm in one process, data-parallel trials.

Imports the jobs and resources of :mod:`studies.execution`, and what that package may import; never ``cluster``.
"""
