"""The DARTS cell space (Liu et al., arXiv 1806.09055): a normal and a reduction cell.

A cell has two inputs, the outputs of the two cells before it (states 0 and 1), and four nodes
(states 2 to 5), whose concatenation is its output. A node is the sum of two operations on two
different earlier states. The pair of states is one position, so that every code is an
architecture: 11 positions for each cell, 22 in all, 9.1e18 codes.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated

from pydantic import Field

from lm_searcher.spaces.builtin_space import builtin_space
from lm_searcher.spaces.darts.cells import CELLS, nodes_of, positions
from lm_searcher.spaces.darts.classes import canonical
from lm_searcher.spaces.darts.cost import cost
from lm_searcher.spaces.model import Accepted, Count, Flag, FrozenModel
from lm_searcher.spaces.ncode import NCode
from lm_searcher.spaces.space import SearchSpace


class DartsSettings(FrozenModel):
    """Settings of the network; the defaults are the size of the paper's CIFAR-10 network."""

    channels: Count = 36
    """Width of the first cells; each reduction cell doubles it."""
    cells: Annotated[int, Field(ge=2), Accepted("integers from 2")] = 20
    """Number of cells. Those after a third and two thirds of them are reduction cells; of two
    cells, one is of each kind."""
    auxiliary: Flag = False
    """Whether to add the paper's second classifier."""
    drop_path: Annotated[float, Field(ge=0, lt=1), Accepted("0 <= number < 1")] = 0.0
    """Probability to drop an operation's result in training."""


@builtin_space("darts", DartsSettings)
def darts(settings: DartsSettings) -> SearchSpace:
    """The DARTS cell space."""
    return SearchSpace.of(
        "darts",
        {name: choices for cell in CELLS for name, choices in positions(cell)},
        builder="lm_searcher.spaces.darts.network:build",
        settings=settings.model_dump(),
        # With up to three cells, the only normal cell is the first: its two inputs are the same.
        canonical_form=partial(canonical, same_inputs=settings.cells <= 3),
        describe=describe,
        cost=cost,
    )


def describe(ncode: NCode) -> str:
    """The Genotype, the notation of the paper's code: two (operation, state) for each node."""
    config = darts().decode(ncode)
    parts = []
    for cell in CELLS:
        edges = [edge for node in nodes_of(config, cell) for edge in node]
        parts.append(f"{cell}={edges}, {cell}_concat=range(2, 6)")
    return f"Genotype({', '.join(parts)})"
