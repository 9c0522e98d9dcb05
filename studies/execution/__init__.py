"""Run trials on Ray: processes, queue, resources, data-parallel trials.

Imports ``design``, ``records``, ``storage`` and ``training``; never ``tracking``.
"""
