"""What a terminal shows: progress, status, previews, profiles, tables. No commands.

Imports ``records``, ``storage``, ``design`` and ``inspection``.
"""
