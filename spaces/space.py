"""Search spaces: positions with their options."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lm_searcher.spaces.builders import current_builder
from lm_searcher.spaces.errors import NCodeError, SpaceError
from lm_searcher.spaces.ncode import DIGITS, MAX_OPTIONS, Codes, NCode, to_codes

Choice = str | int | float | bool
"""The meaning of an option: an operation's name, a width, a rate, a switch."""

Config = dict[str, Choice]
"""A decoded architecture: position name -> chosen option."""


@dataclass(frozen=True)
class Position:
    """One decision: its name, its options, and whether the options are ordered.

    `ordered` is derived if it is None: ascending or descending numbers are ordered, other options
    are not. Raises SpaceError for an empty name, no options, duplicates, or more than 36 options.
    """

    name: str
    choices: tuple[Choice, ...]
    ordered: bool | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "choices", tuple(self.choices))
        if not self.name:
            raise SpaceError("a position has an empty name; give every position a name")
        place = f"position '{self.name}'"
        if not self.choices:
            raise SpaceError(f"{place}: choices is empty; give 1 to {MAX_OPTIONS} options")
        for choice in self.choices:
            if not isinstance(choice, str | int | float) or choice in _INFINITE or choice != choice:
                raise SpaceError(
                    f"{place}: {choice!r} is no option; accepted: text, finite numbers, true, false"
                )
        # As JSON, since 1, 1.0 and True are equal in Python.
        texts = Counter(json.dumps(choice) for choice in self.choices)
        repeated = [text for text, count in texts.items() if count > 1]
        if repeated or len(set(self.choices)) < len(self.choices):
            named = ", ".join(repeated) or "equal values of different types"
            raise SpaceError(f"{place}: duplicate choices ({named}); each option once")
        if len(self.choices) > MAX_OPTIONS:
            raise SpaceError(
                f"{place}: {len(self.choices)} choices, at most {MAX_OPTIONS} fit in one digit; "
                "split it into two positions (coarse and fine) or thin the list"
            )
        if self.ordered is None:
            object.__setattr__(self, "ordered", _monotone(self.choices))


_INFINITE = (math.inf, -math.inf)  # like NaN, not valid in JSON


def _monotone(choices: tuple[Choice, ...]) -> bool:
    if any(isinstance(c, str | bool) for c in choices) or len(choices) < 2:
        return False
    steps = [float(b) - float(a) for a, b in itertools.pairwise(choices)]
    return all(s > 0 for s in steps) or all(s < 0 for s in steps)


@dataclass(frozen=True)
class SearchSpace:
    """A search space, and what is known about its architectures.

    Raises SpaceError for no positions, or two of the same name.
    """

    name: str
    positions: tuple[Position, ...]
    builder: str | Callable[..., Any] | None = None
    """Makes a PyTorch model: `builder(config, **settings)`; a function, or "module:function"."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of the builder and of `cost`."""
    canonical_form: Callable[[NCode], NCode] | None = None
    """Maps an NCode to the representative of its class of identical architectures."""
    describe: Callable[[NCode], str] | None = None
    """Writes an architecture in the space's usual notation."""
    cost: Callable[..., Mapping[str, float]] | None = None
    """Metrics that need no training, such as ``params_m`` and ``flops_m`` (of one image), both in
    millions: `cost(config, image_size=..., **the builder's arguments)`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "positions", tuple(self.positions))
        if not self.positions:
            raise SpaceError(f"space '{self.name}': no positions; give at least one")
        names = Counter(p.name for p in self.positions)
        if repeated := [name for name, count in names.items() if count > 1]:
            raise SpaceError(f"space '{self.name}': two positions are named '{repeated[0]}'")
        if isinstance(self.builder, str):
            object.__setattr__(self, "builder", current_builder(self.builder))

    @classmethod
    def of(cls, name: str, positions: Mapping[str, Sequence[Choice]], **kwargs: Any) -> SearchSpace:
        """A space from plain lists: ``SearchSpace.of("mlp", {"width": [32, 64], ...})``."""
        for position, choices in positions.items():
            if isinstance(choices, str) or not isinstance(choices, Iterable):
                raise SpaceError(f"position '{position}': {choices!r}; accepted: a list of options")
        return cls(name, tuple(Position(n, tuple(c)) for n, c in positions.items()), **kwargs)

    @cached_property
    def cardinalities(self) -> NDArray[np.int64]:
        """The number of options at each position, shape [positions]."""
        return np.array([len(p.choices) for p in self.positions], dtype=np.int64)

    @property
    def size(self) -> int:
        """The exact number of NCodes."""
        return math.prod(len(p.choices) for p in self.positions)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the positions and options in order: the identity of the space."""
        text = json.dumps([[p.name, list(p.choices)] for p in self.positions])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def check(self, ncode: NCode) -> NCode:
        """The NCode itself; raises NCodeError if it is not of this space."""
        where = f"NCode '{ncode}' in space '{self.name}'"
        if not isinstance(ncode, str) or len(ncode) != len(self.positions):
            length = len(ncode) if isinstance(ncode, str) else type(ncode).__name__
            raise NCodeError(
                f"{where}: {length} digits; accepted: {len(self.positions)}, one a position"
            )
        for index, (digit, position) in enumerate(zip(ncode, self.positions, strict=True)):
            if digit not in DIGITS[: len(position.choices)]:
                raise NCodeError(
                    f"{where}: digit {index + 1} ('{digit}') names no option of "
                    f"'{position.name}'; accepted: 0 to {DIGITS[len(position.choices) - 1]}"
                )
        return ncode

    def is_valid(self, ncode: NCode) -> bool:
        """Whether `ncode` is an architecture of this space."""
        try:
            self.check(ncode)
        except NCodeError:
            return False
        return True

    def decode(self, ncode: NCode) -> Config:
        """The configuration of an NCode. Raises NCodeError if it is not of this space."""
        self.check(ncode)
        return {
            p.name: p.choices[DIGITS.index(d)] for p, d in zip(self.positions, ncode, strict=True)
        }

    def encode(self, config: Mapping[str, Choice]) -> NCode:
        """The NCode of a configuration. Raises NCodeError for a missing, unknown or bad entry."""
        names = [p.name for p in self.positions]
        if set(config) != set(names):
            raise NCodeError(
                f"configuration for space '{self.name}' has {sorted(config)}, wants {names}"
            )
        digits = []
        for position in self.positions:
            value = config[position.name]
            if value not in position.choices:
                raise NCodeError(
                    f"'{position.name}' = {value!r}; accepted: "
                    + ", ".join(repr(c) for c in position.choices)
                )
            digits.append(DIGITS[position.choices.index(value)])
        return "".join(digits)

    def canonical(self, ncode: NCode) -> NCode:
        """The representative of all NCodes that build the same architecture as `ncode`."""
        return self.canonical_form(ncode) if self.canonical_form else ncode

    def description(self, ncode: NCode) -> str:
        """The architecture in one line: in the space's own notation, or as a list of choices."""
        if self.describe is not None:
            return self.describe(ncode)
        return ", ".join(f"{name} = {choice}" for name, choice in self.decode(ncode).items())

    def sample(self, n: int, rng: np.random.Generator) -> Codes:
        """`n` uniform draws with replacement, shape [n, positions]."""
        draws = rng.integers(0, self.cardinalities, size=(n, len(self.positions)))
        return draws.astype(np.uint8)

    def enumerate(self) -> Codes:
        """All codes in lexicographic order, shape [size, positions].

        For spaces that fit in memory: check `size` first.
        """
        codes = np.empty((self.size, len(self.positions)), dtype=np.uint8)
        block = self.size  # number of consecutive rows with the same option
        for position, options in enumerate(self.cardinalities):
            block //= int(options)
            codes[:, position] = np.arange(self.size) // block % options
        return codes

    def codes(self, ncodes: Sequence[NCode]) -> Codes:
        """Valid NCodes as rows, shape [n, positions]."""
        return to_codes(ncodes, len(self.positions))
