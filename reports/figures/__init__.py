"""The figures of a report. Matplotlib is imported here and nowhere else.

Imports ``comparison`` and what it may import.
"""
