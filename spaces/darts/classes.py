"""Classes of identical DARTS cells: the least code of each class.

States that are always equal get the same value: nodes that are zero, a node that only skips
another, and two nodes that are the same sum of operations without weights. A cell is then the
values of its nodes, each a sum of operations on values, and all its codes differ only in the
numbering of the nodes. The order of the nodes has no effect: their results are concatenated, and
every reader has its own weights for each channel.

Codes of a class have the same cost, and the same function with matching weights (except for the
noise of drop path, which each pooling draws separately). Some identical cells are not found: equal
sums of more than two terms, and the pooling of a sum that equals the sum of poolings. A search
computes this for a thousand codes in each step.
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from itertools import combinations, product

from lm_searcher.spaces.ncode import DIGITS, NCode

Value = int
"""0 and 1 for the inputs, -1 for zero, otherwise the number of the first state with this value."""

Sum = tuple[tuple[Value, int], ...]
"""The terms of a node: up to two values, each with the index of its operation, sorted."""

_ZERO = -1
_NONE, _SKIP = 0, 3
_WEIGHTLESS = 3  # the last of the operations without weights: none, the pools, skip
_NODES = (2, 3, 4, 5)
_LENGTH = 11  # digits of a cell
# A node is numbered 64 x pair + 8 x first operation + second operation; this is larger than any.
_NOT_YET = 10 * 64


def _texts(node: int) -> list[str]:
    pairs = DIGITS[: len(list(combinations(range(node), 2)))] if node > 2 else [""]
    return ["".join(digits) for digits in product(pairs, DIGITS[:8], DIGITS[:8])]


_TEXTS = {node: _texts(node) for node in _NODES}  # the digits of each number
_EDGES = {
    (node, text): [(s, int(op)) for s, op in zip(pair, text[-2:], strict=True) if int(op) != _NONE]
    for node in _NODES
    for text, pair in zip(
        _TEXTS[node],
        (pair for pair in combinations(range(node), 2) for _ in range(64)),
        strict=False,  # the first node has only one pair of inputs
    )
}


def canonical(ncode: NCode, same_inputs: bool = False) -> NCode:
    """The lexicographically least code of the architectures that are identical to this one.

    `same_inputs`: the two inputs of the normal cell are equal, so they can be exchanged.
    """
    normal, reduce = ncode[:_LENGTH], ncode[_LENGTH:]
    return _least(normal, False, same_inputs) + _least(reduce, True, False)


@lru_cache(1 << 16)
def _least(cell: str, reduction: bool, same_inputs: bool) -> str:
    numbers = _Cell(cell, reduction, (0, 1)).least([0, 1])
    if same_inputs:
        numbers = min(numbers, _Cell(cell, reduction, (1, 0)).least([0, 1]))
    return "".join(_TEXTS[node][number] for node, number in zip(_NODES, numbers, strict=True))


class _Cell:
    """A cell as the values of its nodes, which are then ordered for the least code."""

    def __init__(self, cell: str, reduction: bool, inputs: tuple[Value, Value]) -> None:
        self.sums: dict[Value, Sum] = {_ZERO: ()}
        self.free = {_ZERO}
        """The values without weights, which several nodes may compute."""
        value_of: dict[Sum, Value] = {(): _ZERO}
        values = [*inputs]
        for node, start in zip(_NODES, (0, 2, 5, 8), strict=True):
            edges = _EDGES[node, cell[start : 3 * node - 4]]
            # A pool or a skip of zero is zero.
            terms = [(values[s], op) for s, op in edges if values[s] != _ZERO or op > _WEIGHTLESS]
            total = tuple(sorted(terms))
            # In a reduction cell, the skip of an input halves it, with weights.
            weightless = all(
                op <= _WEIGHTLESS and not (reduction and op == _SKIP and value in (0, 1))
                for value, op in total
            )
            value = node
            if weightless and len(total) == 1 and total[0][1] == _SKIP:
                value = total[0][0]
            elif weightless:
                value = value_of.setdefault(total, node)
                self.free.add(value)
            values.append(value)
            if value == node:
                self.sums[value] = total
        self.left = Counter(values[2:])

    def least(self, placed: list[Value]) -> tuple[int, ...]:
        """The least numbers of the remaining nodes; `placed`: the values of the states so far."""
        if len(placed) == 6:
            return ()
        numbers = {value: self._number(value, placed) for value, n in self.left.items() if n}
        first = min(numbers.values())
        rests = []
        for value, number in numbers.items():
            # Each partial code can be completed, so only those with the least number are.
            if number == first:
                self.left[value] -= 1
                rests.append(self.least([*placed, value]))
                self.left[value] += 1
        return (first, *min(rests))

    def _number(self, value: Value, placed: list[Value]) -> int:
        """The least number of a node with this value, as the next node."""
        total = self.sums.get(value)
        number = _NOT_YET
        if total is not None and (value in self.free or value not in placed):
            number = _written(total, placed)
        if value in placed:
            number = min(number, _written(((value, _SKIP),), placed))
        return number


def _written(total: Sum, placed: list[Value]) -> int:
    """The least number of a node that is this sum; `placed`: the values of the states so far."""
    if not total:
        return 0
    (value, op), *others = total
    if value not in placed:
        return _NOT_YET
    state = placed.index(value)
    if not others:
        return 8 * op if state == 0 else 64 * (state - 1) + op
    other, with_other = others[0]
    rest = state + 1 if other == value else 0
    if other not in placed[rest:]:
        return _NOT_YET
    second = placed.index(other, rest)
    if second < state:
        state, op, second, with_other = second, with_other, state, op
    before = state * len(placed) - state * (state + 1) // 2  # pairs whose first state is smaller
    return 64 * (before + second - state - 1) + 8 * op + with_other
