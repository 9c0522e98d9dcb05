"""Verdicts on results that were measured elsewhere: a table of arms, seeds and a metric, from any trainer.

``results_file``: CSV, Parquet, JSON lines or an MLflow experiment to a data frame. ``results_columns`` and
``results_table``: the frame checked and tabulated. ``claim_phrases``: claims from text. ``judgement``: intervals and
verdicts by the functions that judge studies.
"""
