"""What is trained: specs and the catalogue of named networks, builders, data, and the ``LightningModule``."""
