"""What commands share: options, types of parameters, and how errors end the process.

Imports no command.
"""
