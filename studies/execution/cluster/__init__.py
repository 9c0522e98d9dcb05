"""Ray: the cluster, the queue of trials, and Ray Tune's workers, which start the processes that train.

Imports ``processes``, the jobs and resources of :mod:`studies.execution`, and what that package may import.
"""

import logging

# As it is imported, Ray tells a notebook to install widgets, which nothing here uses.
logging.getLogger("ray.widgets.util").setLevel(logging.WARNING)
