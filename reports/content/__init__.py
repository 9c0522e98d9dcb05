"""Sections and tables of a report, independent of the output format.

Imports ``figures`` (their names), ``comparison`` and what it may import.
"""
