"""Ray: the cluster, the queue of trials, and Ray Tune's workers, which start the processes that train.

Imports ``processes``, the jobs and resources of :mod:`studies.execution`, and what that package may import.
"""
