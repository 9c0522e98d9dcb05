"""Folders of compiled reports, and the notebook API.

Imports ``renderers`` and ``studies.tracking``.
"""
