"""Commands that read results: status, report, plan, judge, gate.

May import everything, as the rest of the command line does.
"""
