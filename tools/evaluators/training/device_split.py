"""A split of labelled images on the device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lm_searcher.tools.data.image_dataset import Dataset, Split


@dataclass(frozen=True)
class DeviceSplit:
    """Images [n, c, h, w] in the type of the data set, mostly uint8, and labels int64 [n].

    A batch is normalised when it is used: float32 images would need four times the memory.
    `mean` and `std` are float32 [c, 1, 1].
    """

    images: Tensor
    labels: Tensor
    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, split: Split, data: Dataset, device: torch.device) -> DeviceSplit:
        """Copy `split`, one of `data`, to the device."""
        images, labels = (torch.tensor(array, device=device) for array in split)
        mean, std = (torch.tensor(v, device=device)[:, None, None] for v in (data.mean, data.std))
        return cls(images, labels, mean, std)

    def __len__(self) -> int:
        return len(self.labels)

    def normalise(self, images: Tensor) -> Tensor:
        """Images as float32 with mean 0 and standard deviation 1 over the training images."""
        return (images.float() - self.mean) / self.std
