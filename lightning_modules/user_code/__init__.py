"""What Lightning guarantees to a user's module and data module: a trainer, a logger, and errors that name their place.

Every other package runs users' code by these.
"""
