"""Search spaces: a name, and positions with their options."""

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

from lm_searcher.spaces.errors import NCodeError, SpaceError
from lm_searcher.spaces.ncode import DIGITS, MAX_OPTIONS, Codes, NCode, to_codes

Choice = str | int | float | bool
"""What an option stands for: an operation's name, a width, a rate, a switch."""

Config = dict[str, Choice]
"""A decoded architecture: position name -> chosen option."""


@dataclass(frozen=True)
class Position:
    """One decision: a name, its options in order, and whether that order means something.

    `ordered` left as None is derived: numbers that rise or fall are ordered, all else is not.
    Raises SpaceError for no options, duplicates, or more than 36.
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
            if not isinstance(choice, str | int | float) or choice in _UNREAL or choice != choice:
                raise SpaceError(
                    f"{place}: {choice!r} is no option; accepted: text, finite numbers, true, false"
                )
        # JSON text tells 1 from true and from 1.0, which compare equal in Python.
        texts = Counter(json.dumps(choice) for choice in self.choices)
        twice = [text for text, count in texts.items() if count > 1]
        if twice or len(set(self.choices)) < len(self.choices):
            named = ", ".join(twice) or "equal values of different types"
            raise SpaceError(f"{place}: duplicate choices ({named}); each option once")
        if len(self.choices) > MAX_OPTIONS:
            raise SpaceError(
                f"{place}: {len(self.choices)} choices, at most {MAX_OPTIONS} fit in one digit; "
                "split it into two positions (coarse and fine) or thin the list"
            )
        if self.ordered is None:
            object.__setattr__(self, "ordered", _rises_or_falls(self.choices))


_UNREAL = (math.inf, -math.inf)  # JSON has no word for them, nor for NaN


def _rises_or_falls(choices: tuple[Choice, ...]) -> bool:
    if any(isinstance(c, str | bool) for c in choices) or len(choices) < 2:
        return False
    steps = [float(b) - float(a) for a, b in itertools.pairwise(choices)]
    return all(s > 0 for s in steps) or all(s < 0 for s in steps)


@dataclass(frozen=True)
class SearchSpace:
    """Everything that can be searched.

    `builder` turns a configuration into a PyTorch model: `builder(config, **settings)`, as a
    function or as "module:function". `canonical_form` maps an NCode to the representative of its
    class of identical architectures, `describe` writes one in the space's usual notation.
    `cost` tells metrics of a configuration that need no training, such as ``params_m`` (millions)
    and ``flops_m`` (millions for one image): `cost(config, image_size=..., **as the builder)`.
    """

    name: str
    positions: tuple[Position, ...]
    builder: str | Callable[..., Any] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    canonical_form: Callable[[NCode], NCode] | None = None
    describe: Callable[[NCode], str] | None = None
    cost: Callable[..., Mapping[str, float]] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "positions", tuple(self.positions))
        if not self.positions:
            raise SpaceError(f"space '{self.name}': no positions; give at least one")
        names = Counter(p.name for p in self.positions)
        if twice := [name for name, count in names.items() if count > 1]:
            raise SpaceError(f"space '{self.name}': two positions are named '{twice[0]}'")

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
        """The number of NCodes, exactly, however many."""
        return math.prod(len(p.choices) for p in self.positions)

    @cached_property
    def fingerprint(self) -> str:
        """Tells this space from another: a digest of its positions and options in order."""
        text = json.dumps([[p.name, list(p.choices)] for p in self.positions])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def check(self, ncode: NCode) -> NCode:
        """The NCode itself; raises NCodeError that says what is wrong with it."""
        where = f"NCode '{ncode}' in space '{self.name}'"
        if not isinstance(ncode, str) or len(ncode) != len(self.positions):
            length = len(ncode) if isinstance(ncode, str) else type(ncode).__name__
            raise NCodeError(
                f"{where}: {length} digits; accepted: {len(self.positions)}, one a position"
            )
        for place, (digit, position) in enumerate(zip(ncode, self.positions, strict=True)):
            if digit not in DIGITS[: len(position.choices)]:
                raise NCodeError(
                    f"{where}: digit {place + 1} ('{digit}') names no option of "
                    f"'{position.name}'; accepted: 0 to {DIGITS[len(position.choices) - 1]}"
                )
        return ncode

    def is_valid(self, ncode: NCode) -> bool:
        """Whether `ncode` names an architecture of this space."""
        try:
            self.check(ncode)
        except NCodeError:
            return False
        return True

    def decode(self, ncode: NCode) -> Config:
        """The configuration of an NCode. Raises NCodeError."""
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
        """The architecture in one line, in the space's own notation where it has one."""
        if self.describe is not None:
            return self.describe(ncode)
        return ", ".join(f"{name} = {choice}" for name, choice in self.decode(ncode).items())

    def sample(self, n: int, rng: np.random.Generator) -> Codes:
        """`n` uniform draws with replacement, shape [n, positions]."""
        draws = rng.integers(0, self.cardinalities, size=(n, len(self.positions)))
        return draws.astype(np.uint8)

    def enumerate(self) -> Codes:
        """Every architecture in lexicographic order, shape [size, positions].

        For spaces that fit in memory; the caller looks at `size` first.
        """
        codes = np.empty((self.size, len(self.positions)), dtype=np.uint8)
        block = self.size  # rows over which a position keeps its option
        for place, options in enumerate(self.cardinalities):
            block //= int(options)
            codes[:, place] = np.arange(self.size) // block % options
        return codes

    def codes(self, ncodes: Sequence[NCode]) -> Codes:
        """Valid NCodes as rows, shape [n, positions]."""
        return to_codes(ncodes, len(self.positions))
