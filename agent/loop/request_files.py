"""Requests as they wait: files beside the store, which any process may write."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from lm_searcher.agent.study.paths import RunFiles
from lm_searcher.spaces.ncode import NCode
from lm_searcher.tools.files import write_atomically


class Request(BaseModel):
    """One request as it waits in its file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    action: Literal["pick", "prune", "widen"]
    ncode: NCode = ""
    """The architecture of a pick."""
    extra: bool = False
    """Whether a pick is evaluated even if the search would end."""
    seed: int | None = None
    """The seed of a pick's training; None: the trial's own."""
    position: int = 0
    option: int = 0


def submit(files: RunFiles, request: Request) -> None:
    """Leave a request for the run, atomically. The run need not be under way."""
    folder = files.requests
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{time.time_ns():020d}-{secrets.token_hex(4)}.json"  # in the order of submission
    write_atomically(folder / name, request.model_dump_json())


def waiting(folder: Path) -> Iterator[tuple[Path, Request]]:
    """The requests that no step has taken up yet, in order; invalid files are skipped."""
    for path in sorted(folder.glob("*.json")):
        with contextlib.suppress(OSError, ValueError, ValidationError):
            yield path, Request.model_validate_json(path.read_bytes())
