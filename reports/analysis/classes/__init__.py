"""What networks answer, class by class. Imports no module of ``analysis``."""

from __future__ import annotations
