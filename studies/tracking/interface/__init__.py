"""What MLflow's own interface shows of a study: addresses, views, names of metrics, data sets and models.

Imports no module of ``studies.tracking`` outside of this folder.
"""
