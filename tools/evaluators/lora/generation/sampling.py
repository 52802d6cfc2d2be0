"""How images are generated for the scores."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sampling:
    """Samples by DDIM with classifier-free guidance."""

    images: int = 16
    """For each of validation and test; the captions are taken in turn."""
    steps: int = 25
    guidance: float = 7.5
