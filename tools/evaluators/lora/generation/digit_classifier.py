"""A classifier of real digits, which scores whether a generated image shows the wanted digit."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from lm_searcher.tools.evaluators.lora.fit import Fit
from lm_searcher.tools.evaluators.lora.loop import train_base_model


def untrained_classifier() -> nn.Sequential:
    """The network: images [n, 1, 8, 8] from -1 to 1 -> logits [n, 10]."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 16, 10),  # 32 channels of 4 x 4 pixels
    )


def train_classifier(
    images: Tensor, labels: Tensor, fit: Fit, *, noise: float, seed: int
) -> nn.Sequential:
    """Train on the images with Gaussian noise of standard deviation `noise` added."""
    torch.manual_seed(seed)
    model = untrained_classifier()

    def loss(rows: Tensor) -> Tensor:
        noisy = images[rows] + noise * torch.randn(len(rows), *images.shape[1:])
        return functional.cross_entropy(model(noisy), labels[rows])

    train_base_model(model, fit, examples=len(images), loss=loss, seed=seed)
    return model.eval()


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The share of images [n, 1, 8, 8] that the classifier gives their labels [n]."""
    with torch.no_grad():
        return float((model(images).argmax(1) == labels).float().mean())
