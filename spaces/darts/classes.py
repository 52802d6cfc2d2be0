"""Which DARTS cells are the same: the least code of each class.

States that always hold equal numbers get one value. That is known of a node that is nothing but
zero, of one that is a plain skip of another, and of two that are the same sum of operations
without weights. A cell is then its nodes' values, each a sum of operations on values, and all
codes of it differ in numbering only. The order of the nodes cannot be told: their results are
concatenated, and whatever reads them weighs each channel anew.

Codes of a class have the same cost, and the same function once weights are matched (but for the
noise of drop path, drawn anew for each pooling). Not joined: equal sums of more than two terms,
and a pooled sum with the sum of the pooled. A search asks this of a thousand codes a step.
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from itertools import combinations, product

from lm_searcher.spaces.ncode import DIGITS, NCode

Value = int
"""0 and 1 for the inputs, -1 for zero, else the number of the first state that holds it."""

Sum = tuple[tuple[Value, int], ...]
"""What a node adds up: up to two values, each with the index of the operation on it, sorted."""

_ZERO = -1
_NONE, _SKIP = 0, 3
_WEIGHTLESS = 3  # operations up to this one: none, the pools, skip
_NODES = (2, 3, 4, 5)
_LENGTH = 11  # digits of a cell
_NOT_YET = 10 * 64  # more than any node's number: 64 x pair + 8 x first + second operation


def _texts(node: int) -> list[str]:
    pairs = DIGITS[: len(list(combinations(range(node), 2)))] if node > 2 else [""]
    return ["".join(digits) for digits in product(pairs, DIGITS[:8], DIGITS[:8])]


_TEXTS = {node: _texts(node) for node in _NODES}  # digits by the node's number
_EDGES = {
    (node, text): [(s, int(op)) for s, op in zip(pair, text[-2:], strict=True) if int(op) != _NONE]
    for node in _NODES
    for text, pair in zip(
        _TEXTS[node],
        (pair for pair in combinations(range(node), 2) for _ in range(64)),
        strict=False,  # the first node has one pair and no choice
    )
}


def canonical(ncode: NCode, same_inputs: bool = False) -> NCode:
    """The lexicographically least code of the architectures that equal this one.

    `same_inputs` says that the normal cell's two inputs may change places.
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
    """A cell as its nodes' values, and the order of them that makes the least code."""

    def __init__(self, cell: str, reduction: bool, inputs: tuple[Value, Value]) -> None:
        self.sums: dict[Value, Sum] = {_ZERO: ()}
        self.free = {_ZERO}
        """The values without weights: several nodes may compute them."""
        known: dict[Sum, Value] = {(): _ZERO}
        values = [*inputs]
        for node, start in zip(_NODES, (0, 2, 5, 8), strict=True):
            edges = _EDGES[node, cell[start : 3 * node - 4]]
            # A pool or a skip of zero is zero.
            terms = [(values[s], op) for s, op in edges if values[s] != _ZERO or op > _WEIGHTLESS]
            total = tuple(sorted(terms))
            # A skip of an input of a reduction cell halves it, with weights.
            light = all(
                op <= _WEIGHTLESS and not (reduction and op == _SKIP and value in (0, 1))
                for value, op in total
            )
            value = node
            if light and len(total) == 1 and total[0][1] == _SKIP:
                value = total[0][0]
            elif light:
                value = known.setdefault(total, node)
                self.free.add(value)
            values.append(value)
            if value == node:
                self.sums[value] = total
        self.left = Counter(values[2:])

    def least(self, placed: list[Value]) -> tuple[int, ...]:
        """The numbers of the nodes that come after `placed`, the values of the states so far."""
        if len(placed) == 6:
            return ()
        numbers = {value: self._number(value, placed) for value, n in self.left.items() if n}
        first = min(numbers.values())
        rests = []
        for value, number in numbers.items():
            # Each beginning can be completed, so only those of the least number need be.
            if number == first:
                self.left[value] -= 1
                rests.append(self.least([*placed, value]))
                self.left[value] += 1
        return (first, *min(rests))

    def _number(self, value: Value, placed: list[Value]) -> int:
        """The least way to write a node of this value now."""
        total = self.sums.get(value)
        number = _NOT_YET
        if total is not None and (value in self.free or value not in placed):
            number = _written(total, placed)
        if value in placed:
            number = min(number, _written(((value, _SKIP),), placed))
        return number


def _written(total: Sum, placed: list[Value]) -> int:
    """The least number of a node that is this sum, reading states of the values `placed`."""
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
    before = state * len(placed) - state * (state + 1) // 2  # pairs that begin with a lesser state
    return 64 * (before + second - state - 1) + 8 * op + with_other
