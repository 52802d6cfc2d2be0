"""A run's search space and subspace, from and for the run's store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lm_searcher.agent.loop.requests import revised
from lm_searcher.spaces.builtin import BUILTIN, builtin
from lm_searcher.spaces.space import Position, SearchSpace
from lm_searcher.spaces.subspace import Subspace


def stored_subspace(
    space: SearchSpace, attributes: Mapping[str, Any]
) -> tuple[Subspace, list[list[int]]]:
    """The subspace and the prunes in force, from the decisions stored with a run.

    Each prune is a list of options' numbers, as `loop.requests.revised` has them.
    """
    subspace = Subspace.full(space)
    pruned: list[list[int]] = []
    for key in sorted(k for k in attributes if k.startswith("memory:")):
        subspace, pruned = revised(subspace, pruned, attributes[key])
    return subspace, pruned


def describe_space(space: SearchSpace) -> dict[str, Any]:
    """A space as stored with a run: its name, and name, choices and order per position."""
    return {
        "name": space.name,
        "positions": [[p.name, list(p.choices), p.ordered] for p in space.positions],
    }


def stored_space(stored: Mapping[str, Any]) -> SearchSpace:
    """The space stored with a run.

    An equal built-in space is returned instead: it also has descriptions and canonical codes.
    """
    positions = tuple(Position(n, tuple(c), o) for n, c, o in stored["positions"])
    space = SearchSpace(stored["name"], positions)
    if space.name in BUILTIN and builtin(space.name).fingerprint == space.fingerprint:
        return builtin(space.name)
    return space
