"""Look after a runs folder: sync the tracking store, free space, check health.

Imports ``storage``, ``tracking`` and ``execution``, and what these may import.
"""
