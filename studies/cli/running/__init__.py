"""Commands that begin a study: register it, run it here or in the background, calibrate the rule with it.

May import everything, as the rest of the command line does.
"""
