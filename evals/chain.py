"""A large synthetic space whose best architecture is known exactly."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lm_searcher.spaces.errors import ConfigError
from lm_searcher.spaces.ncode import Codes, NCode
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.tools.evaluators.function import FunctionEvaluator
from lm_searcher.tools.protocols import Evaluator


class Chain:
    """A problem (see Problem) whose positions form a chain.

    Every second position is ordered, with a random walk as its effects; the effects of the other
    positions are independent. Importances differ widely. Neighbouring positions interact, so that
    dynamic programming along the chain finds the best architecture.
    """

    sign = 1.0

    def __init__(self, positions: int, options: int, number: int) -> None:
        rng = np.random.default_rng([positions, options, number])
        names, sizes = [f"option {k}" for k in range(options)], list(range(options))
        self.space = SearchSpace.of(
            "chain", {f"p{i}": sizes if i % 2 else names for i in range(positions)}
        )
        weight = rng.gamma(0.5, size=positions)[:, None]
        effects = rng.normal(size=(positions, options))
        effects[1::2] = np.cumsum(effects[1::2], axis=1) / np.sqrt(options / 2)
        self.single = weight * effects
        pairs = rng.normal(size=(positions - 1, options, options))
        self.pair = 0.5 * np.sqrt(weight[1:] * weight[:-1])[:, :, None] * pairs
        best = self.single[0]  # the best value of a chain that ends in each option
        for single, pair in zip(self.single[1:], self.pair, strict=True):
            best = (best[:, None] + pair).max(axis=0) + single
        self.best = float(best.max())
        self.median = float(np.median(self(self.space.sample(20_000, rng))))

    def __call__(self, codes: Codes) -> NDArray[np.float64]:
        """The objective of each row, shape [n]."""
        positions = np.arange(codes.shape[1])
        values = self.single[positions, codes].sum(axis=1)
        values += self.pair[positions[:-1], codes[:, :-1], codes[:, 1:]].sum(axis=1)
        return np.asarray(values)

    def evaluator(self) -> Evaluator:
        """See Problem."""
        return FunctionEvaluator(lambda config, ncode: self.value(ncode), inline=True)

    def value(self, ncode: NCode) -> float:
        """See Problem."""
        return float(self(self.space.codes([ncode]))[0])

    def test(self, ncode: NCode) -> float | None:
        """See Problem."""
        return None


def chain_problem(name: str) -> Chain:
    """The problem `chain:POSITIONSxOPTIONS` or `chain:POSITIONSxOPTIONS:NUMBER`.

    Raises ConfigError for another form.
    """
    size, _, number = name.removeprefix("chain:").partition(":")
    try:
        positions, options = map(int, size.split("x"))
        return Chain(positions, options, int(number or 0))
    except ValueError:
        raise ConfigError(f"'{name}'; accepted: chain:POSITIONSxOPTIONS:NUMBER") from None
