"""Plan a study, tune its arms, drive its trials and record them.

Imports every package of this layer but ``inspection``, ``maintenance`` and ``cli``.
"""
