"""What a run is of: a run goes on only with the same space, objective, evaluator and seed."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
import subprocess
from collections.abc import Mapping
from typing import Any

from lm_searcher.agent.study.objectives import ObjectiveSet
from lm_searcher.agent.study.paths import RunFiles
from lm_searcher.agent.study.records import Identity
from lm_searcher.agent.study.storage import shown
from lm_searcher.spaces.builders import current_identity
from lm_searcher.spaces.builtin import BUILTIN, builtin
from lm_searcher.spaces.errors import StoreError
from lm_searcher.spaces.space import Position, SearchSpace
from lm_searcher.tools.protocols import Evaluator

PACKAGES = ("lm-searcher", "langgraph", "optuna", "numpy", "torch")


def identity_of(
    space: SearchSpace, objectives: ObjectiveSet, evaluator: Evaluator, seed: int
) -> Identity:
    """What makes two processes' trials comparable."""
    return Identity(
        space=describe_space(space),
        objective=objectives.to_json(),
        evaluator=evaluator.identity(),
        seed=seed,
    )


def check_same(files: RunFiles, stored: Mapping[str, Any], now: Identity) -> None:
    """Raises StoreError, naming the difference, if the run of these attributes is of something
    else."""
    for name, value in now.document.items():
        before: object = current_identity(stored.get(name))
        after: object = current_identity(value)
        if before != after:
            key, before, after = _difference(name, before, after)
            raise StoreError(
                f"run '{files.name}' in store '{shown(files.url)}' has another {key}: "
                f"{_short(before)} there, {_short(after)} here; choose another --name"
            )


def describe_space(space: SearchSpace) -> dict[str, Any]:
    """A space as it is stored with a run."""
    return {
        "name": space.name,
        "positions": [[p.name, list(p.choices), p.ordered] for p in space.positions],
    }


def stored_space(stored: Mapping[str, Any]) -> SearchSpace:
    """The space of a run; the built-in one, which knows more about itself, where it is that."""
    positions = tuple(Position(n, tuple(c), o) for n, c, o in stored["positions"])
    space = SearchSpace(stored["name"], positions)
    if space.name in BUILTIN and builtin(space.name).fingerprint == space.fingerprint:
        return builtin(space.name)
    return space


def _difference(key: str, before: object, now: object) -> tuple[str, object, object]:
    """Where two plain documents first differ, and what is there."""
    if isinstance(before, dict) and isinstance(now, dict):
        k = next(k for k in {**before, **now} if before.get(k) != now.get(k))
        return _difference(f"{key} {k}", before.get(k), now.get(k))
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        i = next(i for i, (a, b) in enumerate(zip(before, now, strict=True)) if a != b)
        return (f"{key}[{i}]", before[i], now[i])
    return key, before, now


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 120 else text[:117] + "..."


def versions() -> dict[str, str]:
    """What the run was made with: Python, the packages that matter, and the git commit."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        head = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=True
        )
        found["git"] = head.stdout.strip()
    return found
