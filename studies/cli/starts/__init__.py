"""Commands that begin a study without training it here: register it, or run it in the background.

May import everything, as the rest of the command line does.
"""
