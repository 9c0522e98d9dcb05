"""Sections of a report that are independent of the others: one module each.

Imports what ``content`` may, but no module of ``content``, which imports it.
"""

from __future__ import annotations
