"""Error rates of the verdict rule on real trainings: studies are resampled from many seeds, and each one is judged.

``batched_verdicts``: the report's table of verdicts, read for thousands of studies at once. ``resampling``: how a study
is drawn from trainings. ``noise``: spread, shape and correlation of the trainings. ``calibration``: the rates, with
intervals from an outer bootstrap over the trainings.
"""
