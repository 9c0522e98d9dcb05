"""Copies of registrations, and their comparison.

Imports the manifest, and what ``studies.storage`` may import.
"""
