"""Time networks in inference, in fresh processes (`ablate latency`).

Imports ``settings``, ``hardware``, ``scratch`` and ``gc_pause``.
"""
