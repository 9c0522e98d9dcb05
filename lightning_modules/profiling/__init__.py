"""Static profiles of networks.

Imports what ``evaluation`` may import, and ``evaluation``. Nothing that trains imports it.
"""
