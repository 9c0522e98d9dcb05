"""How many trials of an arm one process trains at once on a GPU.

Imports what :mod:`studies.execution` may import.
"""
