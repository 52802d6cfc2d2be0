"""Embedded base models: trained once on this machine, kept with a checksum, never a trial.

A base is a safetensors file in the cache, named for the base and for the digest of its recipe.
Its checksum lies beside it. It is written whole under a lock, by a process of its own, so that
neither a kill nor a second search leaves half a base, and so that the worker which asks for it
starts no thread.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lm_searcher.spaces.errors import EvaluatorError
from lm_searcher.tools.references import resolve

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class BaseModel:
    """An embedded base: its name, who trains it, and everything that its weights depend on.

    `train` is "module:function", called as ``function(**recipe)`` in a fresh process; it returns
    the trained model's state as a dict of tensors. `recipe` is plain JSON.
    """

    name: str
    train: str
    recipe: Mapping[str, Any]

    @cached_property
    def digest(self) -> str:
        """Tells this base from one that was trained otherwise."""
        text = json.dumps([self.train, self.recipe], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def path(self, cache: Path | None = None) -> Path:
        """Where the weights lie; `cache` defaults to the user's cache directory."""
        return (cache or default_cache()) / f"{self.name}-{self.digest}.safetensors"

    def make(self, cache: Path | None = None) -> Path:
        """Train the base unless it is there; its checked file. Runs no torch operation here.

        Raises EvaluatorError for a base that does not match its checksum, a cache that cannot be
        written, or a training that failed.
        """
        raise NotImplementedError

    def load(self, cache: Path | None = None) -> dict[str, Tensor]:
        """The weights on the CPU, checked; what `make` made. Raises EvaluatorError."""
        raise NotImplementedError


def default_cache() -> Path:
    """The user's cache directory, by the platform's custom."""
    from platformdirs import user_cache_path

    return user_cache_path("lm-searcher") / "bases"


_ = (os, subprocess, sys, EvaluatorError, resolve)
