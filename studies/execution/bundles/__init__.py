"""Trials that one process trains at once: how many, and the handle of their process.

Imports what :mod:`studies.execution` may import.
"""
