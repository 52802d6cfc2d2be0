"""How many slots the nodes of a cluster have room for."""

from __future__ import annotations

import pytest

from lm_searcher.tools.executors.cluster.nodes import Node, living_nodes, places_of, wanted_places


@pytest.mark.parametrize(
    ("gpus", "cpus", "places"),
    [
        (1, 0, 4),
        (0.25, 0, 16),
        (1 / 3, 0, 12),
        (0.3, 0, 12),  # a share is of one GPU
        (0.7, 0, 4),
        (3, 0, 1),
        (8, 0, 0),
        (1, 6, 2),
        (0, 1, 16),
        (0, 0.1, 160),
    ],
)
def test_shares_of_one_node(gpus: float, cpus: float, places: int) -> None:
    assert places_of({"GPU": 4.0, "CPU": 16.0, "memory": 1e9}, gpus, cpus) == places


def test_a_node_without_gpus_has_no_place_for_them() -> None:
    assert places_of({"CPU": 16.0}, 0.5, 0) == 0


def test_dead_nodes_do_not_count() -> None:
    listed = [
        {"NodeID": id, "NodeManagerHostname": "h", "Alive": alive, "Resources": {"GPU": 2.0}}
        for id, alive in (("b", True), ("a", True), ("c", False))
    ]
    assert living_nodes(listed, 1, 0) == [Node("a", "h", 2), Node("b", "h", 2)]


def test_places_are_spread_and_those_present_kept() -> None:
    a, b, c = Node("a", "h", 3), Node("b", "h", 1), Node("c", "h", 0)
    assert wanted_places([a, b, c], [], 100) == [(a, 0), (b, 0), (a, 1), (a, 2)]
    assert wanted_places([a, b, c], [], 2) == [(a, 0), (b, 0)]
    assert wanted_places([a, b, c], [("a", 2), ("gone", 0)], 2) == [(a, 2), (a, 0)]
