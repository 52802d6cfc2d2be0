"""The DARTS cell space (Liu et al., arXiv 1806.09055): a normal and a reduction cell.

A cell has two inputs, the outputs of the two cells before it (states 0 and 1), and four nodes
(states 2 to 5), whose concatenation is its output. A node is the sum of two operations on two
different states before it. Which two is one position, so that every code is an architecture: 11
positions a cell, 22 in all, 9.1e18 codes.
"""

from __future__ import annotations

from functools import partial

from lm_searcher.spaces.darts.cells import CELLS, nodes_of, positions
from lm_searcher.spaces.darts.classes import canonical
from lm_searcher.spaces.darts.cost import cost
from lm_searcher.spaces.errors import SpaceError
from lm_searcher.spaces.ncode import NCode
from lm_searcher.spaces.space import SearchSpace


def darts(
    channels: int = 36, cells: int = 20, auxiliary: bool = False, drop_path: float = 0.0
) -> SearchSpace:
    """The space; the defaults are the size of the paper's CIFAR-10 network.

    `channels` is the width of the first cells; the reduction cells, a third and two thirds of the
    way through the `cells`, double it (two cells: one of each kind). `auxiliary` adds the paper's
    second classifier, `drop_path` is the probability to drop an operation's result in training.
    Raises SpaceError.
    """
    for setting, value, least in (("channels", channels, 1), ("cells", cells, 2)):
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise SpaceError(
                f"space 'darts': {setting} = {value!r}; accepted: integers from {least}"
            )
    if not isinstance(auxiliary, bool):
        raise SpaceError(f"space 'darts': auxiliary = {auxiliary!r}; accepted: true, false")
    number = isinstance(drop_path, int | float) and not isinstance(drop_path, bool)
    if not number or not 0 <= drop_path < 1:
        raise SpaceError(f"space 'darts': drop_path = {drop_path!r}; accepted: 0 <= number < 1")
    settings = {"channels": channels, "cells": cells}
    return SearchSpace.of(
        "darts",
        {name: choices for cell in CELLS for name, choices in positions(cell)},
        builder="lm_searcher.spaces.darts.network:build",
        settings=settings | {"auxiliary": auxiliary, "drop_path": drop_path},
        # Up to three cells, the one normal cell is the first, whose two inputs are the same.
        canonical_form=partial(canonical, same_inputs=cells <= 3),
        describe=describe,
        cost=cost,
    )


def describe(ncode: NCode) -> str:
    """As a Genotype, the notation of the paper's code: (operation, state), two a node."""
    config = darts().decode(ncode)
    parts = []
    for cell in CELLS:
        edges = [edge for node in nodes_of(config, cell) for edge in node]
        parts.append(f"{cell}={edges}, {cell}_concat=range(2, 6)")
    return f"Genotype({', '.join(parts)})"
