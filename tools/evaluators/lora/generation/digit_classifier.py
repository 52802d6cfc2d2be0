"""A classifier of real digits that tells whether a generated one is what was asked for."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from lm_searcher.tools.evaluators.lora import loop
from lm_searcher.tools.evaluators.lora.fit import Fit


def judge() -> nn.Sequential:
    """The untrained classifier: images [n, 1, 8, 8] in -1 to 1 -> logits [n, 10]."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 16, 10),
    )


def train_judge(
    images: Tensor, labels: Tensor, fit: Fit, *, noise: float, seed: int
) -> nn.Sequential:
    """A classifier that has learned these images with noise of spread `noise` on them."""
    torch.manual_seed(seed)
    model = judge()

    def loss(rows: Tensor) -> Tensor:
        noisy = images[rows] + noise * torch.randn(len(rows), *images.shape[1:])
        return functional.cross_entropy(model(noisy), labels[rows])

    loop.train(
        model,
        fit,
        examples=len(images),
        loss=loss,
        score=lambda: 0.0,
        seed=seed,
        report=lambda step, value: False,
    )
    return model.eval()


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The share of images that the classifier takes for what their labels say."""
    with torch.no_grad():
        return float((model(images).argmax(1) == labels).float().mean())
