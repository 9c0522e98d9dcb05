"""What lies on disk or in an object store.

Trial folders, leases, status, manifests, data sets.

Imports ``design`` and ``records``.
"""
