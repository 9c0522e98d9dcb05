"""Commands that judge tables of results from any trainer, and that gate a pipeline on verdicts.

May import everything, as the rest of the command line does.
"""
