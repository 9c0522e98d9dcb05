"""Figures of single pages: each module draws those of the page of its name in ``reports/pages``.

A study's own figures are the modules of ``reports/figures``.
"""
