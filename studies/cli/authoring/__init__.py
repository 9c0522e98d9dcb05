"""Commands for whoever writes an ablation: new, check, completion.

Imports no other command.
"""
