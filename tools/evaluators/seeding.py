"""The random state of a trial."""

from __future__ import annotations

import random

import numpy as np


def seed_generators(seed: int) -> None:
    """Seed the global generators of Python, NumPy and torch, which networks may draw from."""
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
