"""What is trained: specs, networks, data, LightningModules, evaluation and profiling.

Users import ``lightning_modules.spec`` and ``lightning_modules.catalogue``.
"""
