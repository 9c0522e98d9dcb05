"""Figures of the pages beside that of a study: two runs, a table of results, a calibration."""

from __future__ import annotations
