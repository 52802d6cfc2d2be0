"""Embedded base models: trained once on this machine and kept in a cache.

A base is a safetensors file, named after the base and the digest of its recipe, with its SHA-256
beside it in the format of `sha256sum -c`. It is written atomically and under a lock, so that
neither a kill nor a second search leaves a partial base. A separate process trains it, because
the calling process forks trials afterwards and must not have started a thread.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lm_searcher.spaces.errors import EvaluatorError
from lm_searcher.tools.files import file_lock

if TYPE_CHECKING:
    from torch import Tensor

_log = logging.getLogger("lm_searcher.lora")


@dataclass(frozen=True)
class BaseModel:
    """An embedded base: its name, its training function, and all that its weights depend on.

    `train` is "module:function", called as ``function(**recipe)`` in a fresh process with one
    thread and without an accelerator. The function returns the trained weights as a dict of
    tensors. `recipe` is plain JSON.
    """

    name: str
    train: str
    recipe: Mapping[str, Any]
    recorded_as: str = ""
    """Stands for `train` in the digest: the name under which the training function was first
    published. Keep it when the function moves, or stored runs and trained bases are lost."""

    @cached_property
    def digest(self) -> str:
        """A hash of the recipe: it differs where a base was trained in another way."""
        text = json.dumps([self.recorded_as or self.train, self.recipe], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def path(self, cache: Path | None = None) -> Path:
        """The file of the weights; `cache` defaults to the user's cache directory."""
        return (cache or default_cache()) / f"{self.name}-{self.digest}.safetensors"

    def make(self, cache: Path | None = None) -> Path:
        """Train the base if it is not in the cache; return its file, checked.

        Runs no torch operation in this process. Raises EvaluatorError if the base does not match
        its checksum, the cache cannot be written, or the training fails.
        """
        path, parent = self.path(cache), os.getppid()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with file_lock(path.with_name(f"{path.name}.lock")):
                if not path.exists():
                    _train(self, path, parent)
                _check(path)
        except OSError as error:
            raise EvaluatorError(
                f"base 'builtin:{self.name}': {path.parent}: {error.strerror or error}; "
                "accepted for cache: a directory that can be written"
            ) from None
        return path

    def load(self, cache: Path | None = None) -> dict[str, Tensor]:
        """The weights, on the CPU. Trains and raises as `make` does."""
        from safetensors.torch import load_file

        return load_file(self.make(cache))


def default_cache() -> Path:
    """The user's cache directory on this platform."""
    from platformdirs import user_cache_path

    return user_cache_path("lm-searcher") / "bases"


def checksum_path(path: Path) -> Path:
    """The file of the checksum of the base at `path`."""
    return path.with_name(f"{path.name}.sha256")


def checksum(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check(path: Path) -> None:
    try:
        written = checksum_path(path).read_text(encoding="ascii").split()[:1]
    except (FileNotFoundError, UnicodeDecodeError):
        written = []
    if written != [checksum(path)]:
        raise EvaluatorError(f"base '{path}' does not match its checksum; delete it to train anew")


def _train(base: BaseModel, path: Path, parent: int) -> None:
    """Train the base in a separate process, which writes `path`.

    The training is given up when `parent`, the process that drives the search, has ended.
    """
    print(f"training the base 'builtin:{base.name}' once, into {path}", file=sys.stderr, flush=True)
    started = time.monotonic()
    environment = os.environ | {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    environment |= {"CUDA_VISIBLE_DEVICES": "", "TOKENIZERS_PARALLELISM": "false"}
    environment["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p)
    with subprocess.Popen(
        [sys.executable, "-m", "lm_searcher.tools.evaluators.lora.base_process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        recipe = {"train": base.train, "recipe": dict(base.recipe), "path": str(path)}
        request: str | None = json.dumps(recipe)
        try:
            while process.returncode is None:
                try:
                    output = process.communicate(request, timeout=0.5)[0]
                except subprocess.TimeoutExpired:
                    request = None  # sent by the first call
                    if os.getppid() != parent:
                        raise EvaluatorError("the search has ended") from None
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        lines = output.strip().splitlines()
        reason = lines[-1] if lines else f"its process ended with {process.returncode}"
        raise EvaluatorError(f"base 'builtin:{base.name}' could not be trained: {reason}")
    _log.info("base 'builtin:%s' trained in %.0f s", base.name, time.monotonic() - started)
