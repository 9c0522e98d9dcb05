"""Render a report as HTML, Markdown, LaTeX and CSV.

Imports ``content`` and what it may import.
"""
