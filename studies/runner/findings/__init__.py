"""What a study has found, logged to its own run while its trials end.

Imports no module of ``studies.runner`` outside of this folder.
"""
