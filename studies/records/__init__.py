"""The record of a study: results, registration, identity, digests, and their JSON forms.

Imports ``design`` and ``settings``.
"""
