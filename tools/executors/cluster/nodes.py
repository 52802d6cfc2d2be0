"""The nodes of a Ray cluster, and how many slots each has room for."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_EXACT = 1e-6
"""Against the rounding of shares such as a third."""


@dataclass(frozen=True)
class Node:
    id: str
    host: str
    places: int
    """How many slots it has room for, if nobody else uses it."""


def places_of(resources: Mapping[str, float], gpus: float, cpus: float) -> int:
    """How many slots with these shares fit; a share of a GPU is of one GPU."""
    room = math.inf
    if gpus:
        whole = math.floor(resources.get("GPU", 0.0) + _EXACT)
        room = whole * math.floor(1 / gpus + _EXACT) if gpus < 1 else whole // gpus
    if cpus:
        room = min(room, math.floor(resources.get("CPU", 0.0) / cpus + _EXACT))
    return int(room)


def living_nodes(listed: Iterable[Mapping[str, Any]], gpus: float, cpus: float) -> list[Node]:
    """The nodes that are alive, of `ray.nodes()`, in a fixed order."""
    alive = [node for node in listed if node["Alive"]]
    return sorted(
        (
            Node(
                node["NodeID"],
                node["NodeManagerHostname"],
                places_of(node["Resources"], gpus, cpus),
            )
            for node in alive
        ),
        key=lambda node: node.id,
    )


def wanted_places(
    nodes: Iterable[Node], present: Iterable[tuple[str, int]], workers: int
) -> list[tuple[Node, int]]:
    """Node and number of each place that the cluster should have, at most `workers`.

    Places that are `present` (node's id and number) are kept; others are spread over the nodes.
    """
    nodes = list(nodes)
    possible = [
        (node, number)
        for number in range(max((node.places for node in nodes), default=0))
        for node in nodes
        if number < node.places
    ]
    kept = set(present)
    possible.sort(key=lambda place: (place[0].id, place[1]) not in kept)  # a stable sort
    return possible[:workers]
