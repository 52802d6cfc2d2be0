"""The checkpoint of a training, and the lock of its folder."""

from __future__ import annotations

import contextlib
import pickle
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from lm_searcher.spaces.errors import TrainingError, first_line
from lm_searcher.tools.files import atomic_file, file_lock
from lm_searcher.tools.rankers.incontext.model import FORMAT

KIND = "lm-searcher incontext training"
STATE, LOCK = "state.pt", "training.lock"
RENAMED = {"courage": "exploration"}
"""Settings that had another name in earlier versions, by the earlier name."""


@contextlib.contextmanager
def training_lock(folder: Path) -> Iterator[None]:
    """Lock `folder` for one training. Raises TrainingError if another process trains there, or
    if the folder cannot be written.

    The system releases the lock when this process ends.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = file_lock(folder / LOCK, timeout=0)
    except TimeoutError:
        raise TrainingError(
            f"training in '{folder}': another process trains there; wait for it, end it, or "
            "choose another --out"
        ) from None
    except OSError as error:
        raise TrainingError(f"training in '{folder}': {error.strerror}") from None
    with lock:
        yield


def save_state(folder: Path, state: Mapping[str, Any], fixed: Mapping[str, Any]) -> None:
    """Write `state` atomically, with the settings that a later call must have."""
    with atomic_file(folder / STATE) as file:
        torch.save({"kind": KIND, "format": FORMAT, "settings": dict(fixed), **state}, file)


def load_state(folder: Path, fixed: Mapping[str, Any]) -> dict[str, Any] | None:
    """Read the state in `folder`; None if there is none.

    Raises TrainingError for a state that is damaged, foreign, or of settings other than `fixed`.
    """
    path = folder / STATE
    if not path.exists():
        return None
    try:
        with warnings.catch_warnings(action="ignore"):  # about a foreign pickle, refused below
            state: Any = torch.load(path, weights_only=True, map_location="cpu")
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise TrainingError(
            f"checkpoint '{path}' is damaged or no checkpoint ({first_line(error, 100)}); remove "
            "it to begin anew, or choose another --out"
        ) from None
    if not isinstance(state, dict) or state.get("kind") != KIND or state.get("format") != FORMAT:
        raise TrainingError(
            f"checkpoint '{path}' is not of this training (or of another version); remove it to "
            "begin anew, or choose another --out"
        )
    stored = _renamed(state["settings"])
    differences = [
        f"{name} = {stored.get(name)!r}, not {value!r}"
        for name, value in _renamed(fixed).items()
        if stored.get(name) != value
    ]
    if differences:
        raise TrainingError(
            f"checkpoint '{path}' was trained with {'; '.join(differences)}: go on with the same "
            "settings, or choose another --out"
        )
    return state


def _renamed(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {RENAMED.get(name, name): value for name, value in settings.items()}
