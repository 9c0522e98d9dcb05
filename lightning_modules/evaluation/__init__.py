"""Evaluate trained networks: dense, multi-crop, linear probe.

Imports ``data`` and ``modules``, and what these may import.
"""
