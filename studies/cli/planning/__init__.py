"""Seeds before a study, and error rates from many trainings: what `ablate plan` prints, and `ablate calibrate`.

May import everything, as the rest of the command line does.
"""
