"""Subspaces: the options of each position that are not pruned."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lm_searcher.spaces.errors import SpaceError
from lm_searcher.spaces.ncode import DIGITS, Codes, NCode
from lm_searcher.spaces.space import SearchSpace


@dataclass(frozen=True)
class Subspace:
    """A mask of allowed options per position; every position keeps at least one."""

    space: SearchSpace
    allowed: tuple[str, ...]
    """The digits still allowed at each position, ascending: ("01234", "03", ...)."""

    def __post_init__(self) -> None:
        full = [DIGITS[: len(p.choices)] for p in self.space.positions]
        if len(self.allowed) != len(full):
            raise SpaceError(f"subspace has {len(self.allowed)} positions, wants {len(full)}")
        for position, kept, digits in zip(self.space.positions, self.allowed, full, strict=True):
            if not kept or "".join(sorted(set(kept), key=digits.find)) != kept:
                raise SpaceError(
                    f"subspace at '{position.name}': '{kept}'; "
                    f"accepted: one or more of {digits}, ascending, each once"
                )
            if not set(kept) <= set(digits):
                raise SpaceError(f"subspace at '{position.name}': '{kept}' beyond {digits}")

    @classmethod
    def full(cls, space: SearchSpace) -> Subspace:
        """The whole space."""
        return cls(space, tuple(DIGITS[: len(p.choices)] for p in space.positions))

    @property
    def size(self) -> int:
        """The number of NCodes inside, exactly."""
        product = 1
        for kept in self.allowed:
            product *= len(kept)
        return product

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Shape [positions, most options]: whether an option is allowed."""
        mask = np.zeros((len(self.allowed), int(self.space.cardinalities.max())), dtype=bool)
        for row, kept in zip(mask, self.allowed, strict=True):
            row[[DIGITS.index(d) for d in kept]] = True
        return mask

    def __contains__(self, ncode: object) -> bool:
        return (
            isinstance(ncode, str)
            and len(ncode) == len(self.allowed)
            and all(d in kept for d, kept in zip(ncode, self.allowed, strict=True))
        )

    def contains(self, codes: Codes) -> NDArray[np.bool_]:
        """Which rows are inside, shape [n]."""
        inside: NDArray[np.bool_] = np.all(self.mask[np.arange(codes.shape[1]), codes], axis=1)
        return inside

    def restrict(self, position: int, option: int) -> Subspace:
        """Without one option. Raises SpaceError if it is pruned already, or the last one."""
        digit, kept = DIGITS[option], self.allowed[position]
        if digit not in kept or len(kept) == 1:
            raise SpaceError(
                f"cannot prune option {digit} of '{self.space.positions[position].name}': "
                f"allowed are {kept}"
            )
        return self._with(position, kept.replace(digit, ""))

    def widen(self, position: int, option: int) -> Subspace:
        """With one option allowed again. Raises SpaceError if the position has no such option."""
        if option >= len(self.space.positions[position].choices):
            raise SpaceError(f"'{self.space.positions[position].name}' has no option {option}")
        digits = sorted({*self.allowed[position], DIGITS[option]}, key=DIGITS.index)
        return self._with(position, "".join(digits))

    def _with(self, position: int, kept: str) -> Subspace:
        allowed = (*self.allowed[:position], kept, *self.allowed[position + 1 :])
        return Subspace(self.space, allowed)

    def sample(self, n: int, rng: np.random.Generator) -> Codes:
        """`n` uniform draws with replacement from inside, shape [n, positions]."""
        columns = []
        for kept in self.allowed:
            options = np.array([DIGITS.index(d) for d in kept], dtype=np.uint8)
            columns.append(options[rng.integers(0, len(options), size=n)])
        return np.stack(columns, axis=1)

    def pruned(self) -> Iterator[tuple[int, int]]:
        """(position, option) of each pruned option."""
        for place, (position, kept) in enumerate(
            zip(self.space.positions, self.allowed, strict=True)
        ):
            for option in range(len(position.choices)):
                if DIGITS[option] not in kept:
                    yield place, option

    def to_text(self, ncode: NCode) -> str:
        """The re-indexed form of the paper (section 3.2).

        A position with one option left says nothing and maps to the empty string; the options
        that remain elsewhere are numbered 0, 1, 2, ... anew. Raises SpaceError for a code
        outside.
        """
        if ncode not in self:
            raise SpaceError(f"NCode '{ncode}' is outside the subspace {self.allowed}")
        return "".join(
            DIGITS[kept.index(d)]
            for d, kept in zip(ncode, self.allowed, strict=True)
            if len(kept) > 1
        )

    def from_text(self, text: str) -> NCode:
        """The NCode of a re-indexed form; the inverse of `to_text`. Raises SpaceError."""
        open_positions = [kept for kept in self.allowed if len(kept) > 1]
        if len(text) != len(open_positions):
            raise SpaceError(f"'{text}': {len(text)} digits, {len(open_positions)} open positions")
        digits = iter(text)
        ncode = []
        for kept in self.allowed:
            place = DIGITS.find(next(digits)) if len(kept) > 1 else 0
            if not 0 <= place < len(kept):
                raise SpaceError(f"'{text}' names an option that the subspace does not have")
            ncode.append(kept[place])
        return "".join(ncode)
