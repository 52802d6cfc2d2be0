"""The NAS-Bench-201 cell space (Dong and Yang, arXiv 2001.00326): 15,625 cells.

A cell is a graph of four nodes. Node 0 is its input, node 3 its output, and each pair of nodes
is joined by an edge with one of five operations; a node is the sum of its incoming edges.
`parameters`, `flops` and `cost` are exact and build no network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from lm_searcher.spaces.builtin_space import builtin_space
from lm_searcher.spaces.model import Count, FrozenModel
from lm_searcher.spaces.ncode import DIGITS, NCode, to_ncodes
from lm_searcher.spaces.space import Choice, SearchSpace

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
EDGES = ((1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2))
"""(target, source) of each position."""

_NONE, _SKIP, _CONV_1X1, _CONV_3X3 = (DIGITS[i] for i in range(4))


class NB201Settings(FrozenModel):
    """Settings of the network; the defaults are the benchmark's own."""

    channels: Count = 16
    """Width of the first of three stages; the next two have 2 and 4 times as many channels."""
    cells: Count = 5
    """Number of equal cells in each stage."""


@builtin_space("nb201", NB201Settings)
def nb201(settings: NB201Settings) -> SearchSpace:
    """The NAS-Bench-201 cell space."""
    return SearchSpace.of(
        "nb201",
        {edge_name(edge): OPERATIONS for edge in EDGES},
        builder="lm_searcher.spaces.nb201.network:build",
        settings=settings.model_dump(),
        canonical_form=canonical,
        describe=describe,
        cost=cost,
    )


def edge_name(edge: tuple[int, int]) -> str:
    """The position of an edge (target, source)."""
    return f"edge {edge[0]}<-{edge[1]}"


def describe(ncode: NCode) -> str:
    """The benchmark's string of a cell: ``|op~0|+|op~0|op~1|+|op~0|op~1|op~2|``."""
    nodes: dict[int, str] = {}
    for (target, source), digit in zip(EDGES, ncode, strict=True):
        nodes[target] = nodes.get(target, "|") + f"{OPERATIONS[int(digit)]}~{source}|"
    return "+".join(nodes.values())


def canonical(ncode: NCode) -> NCode:
    """The lexicographically smallest code of the class of cells isomorphic to this one.

    There are 6,466 classes, the benchmark's published number. An edge that leads nowhere still
    has parameters, so the cells of a class may differ in cost.
    """
    return _representatives()[ncode]


@cache
def _representatives() -> dict[NCode, NCode]:
    first: dict[str, NCode] = {}
    codes = to_ncodes(nb201().enumerate())  # lexicographic: the first code of a class is its least
    return {ncode: first.setdefault(_expression(ncode), ncode) for ncode in codes}


def _expression(ncode: NCode) -> str:
    """What the output node computes, as text; equal text is the benchmark's isomorphism.

    A node is the sum of its edges, sorted as text. "#" is zero: an edge without operation, or any
    edge out of a node that is one "#" and nothing else. A skip is its source's own sum; any other
    operation is the source's sum in brackets, followed by the operation's name. Zeros in a sum
    stay.

    Only cells of the same function get the same text (apart from the bias that an affine batch
    norm adds to a zero), but not all of them do: a skipped sum keeps its own order among the terms
    around it. Without zeros and with such sums sorted again, 4,930 classes would remain. The
    notation is part of the definition, since it decides the order: with the operation's name in
    front of the bracket there are 6,344 classes.
    """
    sums = {0: "x"}
    terms: dict[int, list[str]] = {1: [], 2: [], 3: []}
    for (target, source), digit in zip(EDGES, ncode, strict=True):
        if source not in sums:
            sums[source] = "+".join(sorted(terms[source]))
        if digit == _NONE or sums[source] == "#":
            terms[target].append("#")
        else:
            name = OPERATIONS[int(digit)]
            terms[target].append(sums[source] if digit == _SKIP else f"({sums[source]}){name}")
    return "+".join(sorted(terms[3]))


def cost(config: Mapping[str, Choice], *, image_size: int = 32, **call: Any) -> dict[str, float]:
    """``params_m`` and ``flops_m`` of the network that `build(config, **call)` makes."""
    ncode = "".join(DIGITS[OPERATIONS.index(str(config[edge_name(edge)]))] for edge in EDGES)
    return {
        "params_m": parameters(ncode, **call) / 1e6,
        "flops_m": flops(ncode, **call, image_size=image_size) / 1e6,
    }


def parameters(
    ncode: NCode, channels: int = 16, cells: int = 5, classes: int = 10, in_channels: int = 3
) -> int:
    """The number of trainable parameters of the network that `build` makes."""
    total = 9 * in_channels * channels + 2 * channels  # stem: 3x3 convolution, batch norm
    for stage, width in enumerate(_widths(channels)):
        for area in _kernel_areas(ncode):
            total += cells * (area * width**2 + 2 * width)
        if stage:
            half = width // 2
            total += 9 * half * width + 9 * width**2 + half * width + 4 * width
    last = 4 * channels
    return total + 2 * last + last * classes + classes


def flops(
    ncode: NCode,
    channels: int = 16,
    cells: int = 5,
    classes: int = 10,
    in_channels: int = 3,
    image_size: int = 32,
) -> int:
    """The operations of one forward pass over one square image.

    Counted as PyTorch's FlopCounterMode does: convolutions and the linear layer only, 2 for each
    multiply-add. The benchmark's published FLOPs count a multiply-add once.
    """
    side = image_size
    total = 9 * in_channels * channels * side**2
    for stage, width in enumerate(_widths(channels)):
        if stage:
            side = (side + 1) // 2
            half = width // 2
            total += (9 * half * width + 9 * width**2 + half * width) * side**2
        total += cells * sum(_kernel_areas(ncode)) * width**2 * side**2
    return 2 * (total + 4 * channels * classes)


def _widths(channels: int) -> tuple[int, int, int]:
    return channels, 2 * channels, 4 * channels


def _kernel_areas(ncode: NCode) -> Iterator[int]:
    for digit in ncode:
        if digit in (_CONV_1X1, _CONV_3X3):
            yield 1 if digit == _CONV_1X1 else 9
