"""Two networks that this package does not know: a factory of a plain module, and one that trains itself."""

import pytorch_lightning as lightning
import torch
from torch import nn
from torch.nn import functional


def small(channels: int, classes: int, activation: str = "relu") -> nn.Sequential:
    """Three convolutions and a classifier. Any function or class that returns an ``nn.Module`` will do."""
    activations = {"relu": nn.ReLU, "gelu": nn.GELU}

    def stage(inputs: int, outputs: int) -> list[nn.Module]:
        convolution = nn.Conv2d(inputs, outputs, 3, padding=1)
        return [convolution, nn.BatchNorm2d(outputs), activations[activation](), nn.MaxPool2d(2)]

    layers = [*stage(channels, 16), *stage(16, 32), *stage(32, 64)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, classes))


class OwnTraining(lightning.LightningModule):
    """The same network with its own loss and optimizer. All that it needs is a ``forward`` from images to logits."""

    def __init__(self, channels: int, classes: int, smoothing: float = 0.0) -> None:
        super().__init__()
        self.network = small(channels, classes)
        self.smoothing = smoothing

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits ``(batch, classes)``."""
        return self.network(images)

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], _: int) -> torch.Tensor:
        """The loss of a batch."""
        images, labels = batch
        return functional.cross_entropy(self(images), labels, label_smoothing=self.smoothing)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW, at a constant rate."""
        return torch.optim.AdamW(self.parameters(), lr=3e-3)
