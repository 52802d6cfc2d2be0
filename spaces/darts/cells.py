"""The positions of the two DARTS cells, and the cells of a configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations

from lm_searcher.spaces.space import Choice

OPERATIONS = (
    "none", "max_pool_3x3", "avg_pool_3x3", "skip_connect",
    "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5",
)  # fmt: skip
CELLS = ("normal", "reduce")
NODES = (2, 3, 4, 5)

Node = tuple[tuple[str, int], tuple[str, int]]
"""Two operations, each with the number of the state that it reads."""


def positions(cell: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Names and options of the positions of the `cell`, normal or reduce."""
    for node in NODES:
        if node > 2:  # the first node has only one pair of inputs
            pairs = tuple(f"{a} and {b}" for a, b in combinations(range(node), 2))
            yield f"{cell} node {node} inputs", pairs
        yield f"{cell} node {node} first", OPERATIONS
        yield f"{cell} node {node} second", OPERATIONS


def nodes_of(config: Mapping[str, Choice], cell: str) -> list[Node]:
    """The four nodes of the `cell`. Raises KeyError for a configuration of another space."""
    nodes: list[Node] = []
    for node in NODES:
        place = f"{cell} node {node}"
        inputs = str(config[f"{place} inputs"]) if node > 2 else "0 and 1"
        first, second = (int(state) for state in inputs.split(" and "))
        one, other = str(config[f"{place} first"]), str(config[f"{place} second"])
        nodes.append(((one, first), (other, second)))
    return nodes


def reductions(cells: int) -> set[int]:
    """The indices of the reduction cells; the first cell is always a normal one."""
    return {cells // 3, 2 * cells // 3} - {0}
