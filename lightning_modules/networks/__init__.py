"""From a network spec to an ``nn.Module`` with its initial weights.

Imports ``specs`` and ``rng`` of this layer, and neither Lightning nor torchvision: ``ablate show`` builds networks, and
should answer at once.
"""
