"""Which DARTS cells are the same: the least code of each class.

States that always hold equal numbers get one value. That is known of a node that is nothing but
zero, of one that is a plain skip of another, and of two that are the same sum of operations
without weights. A cell is then its nodes' values, each a sum of operations on values, and all
codes of it differ in numbering only. The order of the nodes cannot be told: their results are
concatenated, and whatever reads them weighs each channel anew.

Codes of a class have the same cost, and the same function once weights are matched (but for the
noise of drop path, drawn anew for each pooling). Not joined: equal sums of more than two terms,
and a pooled sum with the sum of the pooled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import combinations

from lm_searcher.spaces.ncode import DIGITS, NCode

Value = int
"""0 and 1 for the inputs, -1 for zero, else the number of the first state that holds it."""

Sum = tuple[tuple[Value, str], ...]
"""What a node adds up: values, each with the digit of the operation on it."""

_ZERO = -1
_NONE, _MAX_POOL, _AVG_POOL, _SKIP = (DIGITS[i] for i in range(4))
_WEIGHTLESS = (_MAX_POOL, _AVG_POOL, _SKIP)
_PAIRS = {node: list(combinations(range(node), 2)) for node in (2, 3, 4, 5)}
_LENGTH = 11  # digits of a cell


def canonical(ncode: NCode, same_inputs: bool = False) -> NCode:
    """The lexicographically least code of the architectures that equal this one.

    `same_inputs` says that the normal cell's two inputs are one and the same.
    """
    normal, reduce = ncode[:_LENGTH], ncode[_LENGTH:]
    return _least(normal, False, same_inputs) + _least(reduce, True, False)


@lru_cache(1 << 16)
def _least(cell: str, reduction: bool, same_inputs: bool) -> str:
    states = [(0, 1, 2, 3, 4, 5), (1, 0, 2, 3, 4, 5)][: 1 + same_inputs]
    return min(_Numbering(*_values(cell, reduction, names)).least() for names in states)


def _edges(cell: str, names: tuple[int, ...]) -> Iterator[list[tuple[int, str]]]:
    """The states and operations of each node; `names` renames the states."""
    place = 0
    for node, pairs in _PAIRS.items():
        pair = pairs[0]
        if node > 2:
            pair = pairs[DIGITS.index(cell[place])]
            place += 1
        yield [(names[state], cell[place + i]) for i, state in enumerate(pair)]
        place += 2


def _values(
    cell: str, reduction: bool, names: tuple[int, ...]
) -> tuple[Counter[Value], dict[Value, Sum], set[Value]]:
    """How many nodes hold each value; the sum that each value is; which have no weights."""
    value = {0: 0, 1: 1}
    sums: dict[Value, Sum] = {_ZERO: ()}
    free = {_ZERO}
    known: dict[Sum, Value] = {(): _ZERO}
    for node, edges in enumerate(_edges(cell, names), start=2):
        terms = sorted((value[s], op) for s, op in edges if op != _NONE)
        # A pool or a skip of zero is zero.
        total = tuple(t for t in terms if t[0] != _ZERO or t[1] not in _WEIGHTLESS)
        # A skip of an input of a reduction cell halves it, with weights.
        light = all(
            op in _WEIGHTLESS and not (reduction and op == _SKIP and source in (0, 1))
            for source, op in total
        )
        if light and len(total) == 1 and total[0][1] == _SKIP:
            value[node] = total[0][0]
        elif light:
            value[node] = known.setdefault(total, node)
            sums.setdefault(value[node], total)
            free.add(value[node])
        else:
            value[node] = node
            sums[node] = total
    return Counter(value[node] for node in _PAIRS), sums, free


class _Numbering:
    """Writes a cell's nodes in the order that makes the least code."""

    def __init__(
        self, counts: Mapping[Value, int], sums: Mapping[Value, Sum], free: set[Value]
    ) -> None:
        self.counts, self.sums, self.free = counts, sums, free

    def least(self, placed: tuple[Value, ...] = (0, 1)) -> str:
        """The digits of the nodes that come after `placed`, the values of the states so far."""
        if len(placed) == 6:
            return ""
        options = [
            (digits, value)
            for value, count in self.counts.items()
            if placed.count(value) - (value in (0, 1)) < count
            and (digits := self._digits(value, placed))
        ]
        first = min(digits for digits, _ in options)
        # Each beginning can be completed, so only those with the least digits need be.
        rests = (self.least((*placed, value)) for digits, value in options if digits == first)
        return first + min(rests)

    def _digits(self, value: Value, placed: tuple[Value, ...]) -> str:
        """The least way to write a node of this value now; empty if there is none yet."""
        ways: list[Sum] = []
        if value in self.sums and (value in self.free or value not in placed):
            ways.append(self.sums[value])
        if value in placed:
            ways.append(((value, _SKIP),))
        return min((d for way in ways for d in _written(way, placed)), default="")


def _written(total: Sum, placed: tuple[Value, ...]) -> Iterator[str]:
    """Every code of a node that is the sum `total`, from states of the values `placed`."""
    pairs = _PAIRS[len(placed)]
    for index, pair in enumerate(pairs):
        # The digit of the pair comes first, so a later pair cannot be less.
        prefix = "" if len(pairs) == 1 else DIGITS[index]
        found = [prefix + ops for ops in _operations(total, [placed[s] for s in pair])]
        if found:
            yield min(found)
            return


def _operations(total: Sum, values: list[Value]) -> Iterator[str]:
    """The digits of the two operations that make the sum from states of these two values."""
    padded = [*total, *[(None, _NONE)] * (2 - len(total))]
    for (a, first), (b, second) in (padded, padded[::-1]):
        if a in (None, values[0]) and b in (None, values[1]):
            yield first + second
