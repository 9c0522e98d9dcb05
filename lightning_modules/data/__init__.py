"""Data sets, image decoding, augmentation and data modules.

Imports ``specs``, ``networks``, ``rng`` and ``distributed``.
"""
