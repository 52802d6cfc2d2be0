"""Timed trainings: the product's and a plain loop, and data for them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from lm_searcher.tools.data.image_dataset import Dataset, Split
from lm_searcher.tools.data.texts import Text
from lm_searcher.tools.evaluators.training.evaluator import TrainEvaluator
from lm_searcher.tools.protocols import Evaluation, Metrics, Report


@cache
def photographs(images: int) -> Dataset:
    """Noise in the shape of CIFAR-10: `images` for training, and a third more for evaluation."""
    rng = np.random.default_rng(0)

    def split(n: int) -> Split:
        return rng.integers(0, 256, (n, 3, 32, 32), dtype=np.uint8), np.arange(n) % 10

    return Dataset("noise", split(images), split(max(10, images // 9)), split(images * 2 // 9), 10)


@dataclass
class TimedTraining(TrainEvaluator):
    """The product's training; its metrics are seconds: `wall NAME` and `cpu NAME` of each part.

    The part `ready` is the time before the first step.
    """

    images: int = 0
    """Number of noise images; 0: the named data set."""
    _spent: dict[str, float] = field(default_factory=dict)

    @property
    def data(self) -> Dataset | Text:
        """Noise images if `images` is set, otherwise the data set."""
        return photographs(self.images) if self.images else super().data

    def evaluate(self, evaluation: Evaluation, report: Report) -> Metrics:
        """See Evaluator. Called in a process that the executor has forked for this trial."""
        self._began = time.perf_counter()
        self._marks = {"wall": self._began, "cpu": 0.0}
        self._spent = {}
        metrics = super().evaluate(evaluation, report)
        self.lap("after")
        return {**metrics, **self._spent, "images": float(self._learned(metrics))}

    def _learned(self, metrics: Metrics) -> int:
        data = self.data
        assert isinstance(data, Dataset)
        n = len(data.train[1])
        batch = min(self.recipe.batch_size, n)
        return int(metrics["epochs"]) * (n // batch) * batch

    def lap(self, part: str) -> None:
        """See TrainEvaluator. Waits for the device before it reads the clock."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        for clock, now in (("wall", time.perf_counter()), ("cpu", time.process_time())):
            name = f"{clock} {part}"
            self._spent[name] = self._spent.get(name, 0.0) + now - self._marks[clock]
            self._marks[clock] = now


class Photographs(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """A split as in many tutorials: one image at a time, augmented in Python."""

    def __init__(self, split: Split, data: Dataset, augment: bool) -> None:
        self.images, self.labels = split
        self.mean, self.std = data.mean[:, None, None], data.std[:, None, None]
        self.augment = augment

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = torch.from_numpy((self.images[index].astype(np.float32) - self.mean) / self.std)
        if self.augment:
            top, left = torch.randint(9, (2,)).tolist()
            image = functional.pad(image, [4] * 4)[:, top : top + 32, left : left + 32]
            image = image.flip(2) if torch.rand(1) < 0.5 else image
        return image, int(self.labels[index])


def plain_training(
    model: nn.Module, data: Dataset, epochs: int, batch: int, loaders: int
) -> dict[str, float]:
    """A plain loop in float32 with a DataLoader of `loaders` processes; seconds and accuracy."""
    began = time.perf_counter()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    options: dict[str, Any] = {"num_workers": loaders, "pin_memory": device.type == "cuda"}
    learn = DataLoader(
        Photographs(data.train, data, True), batch, shuffle=True, drop_last=True, **options
    )
    model = model.to(device)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(learn))
    accuracy = {}
    for _ in range(epochs):
        model.train()
        for images, labels in learn:
            images, labels = images.to(device), labels.to(device)
            loss = functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            loss.item()  # as if it were printed or logged
        accuracy["val"] = _accuracy(model, data.valid, data, options, device)
    accuracy["test"] = _accuracy(model, data.test, data, options, device)
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "images": float(epochs * len(learn) * batch), **accuracy}


def _accuracy(
    model: nn.Module,
    split: Split,
    data: Dataset,
    options: Mapping[str, Any],
    device: torch.device,
) -> float:
    model.eval()
    right = 0
    with torch.no_grad():
        for images, labels in DataLoader(Photographs(split, data, False), 1000, **options):
            right += int((model(images.to(device)).argmax(1) == labels.to(device)).sum())
    return right / len(split[1])
