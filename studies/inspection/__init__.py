"""Profile a network by name, and evaluate saved weights on an image folder.

Imports ``design``, ``protocols``, ``storage`` and ``training``.
"""
