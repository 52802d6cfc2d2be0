"""The time of a decision: milliseconds to rank a pool, by ranker.

    python -m lm_searcher.evals.ranking_speed [--rankers local,tpe] [--repeats 5]

The histories are random. Figures are medians of wall-clock time on an idle machine.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from lm_searcher.spaces.builtin import builtin
from lm_searcher.spaces.history import History
from lm_searcher.spaces.ncode import Codes
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.tools.rankers import make_ranker

WIDE = SearchSpace.of(
    "wide", {f"p{i}": list(range(8)) if i % 2 else list("abcdefgh") for i in range(60)}
)
CASES = (
    ("nb201", 1_000, 200),
    ("nb201", 15_625, 100),
    ("nb201", 1_000, 1_000),
    ("60 positions x 8", 1_000, 200),
)
"""Space, candidates, trials."""


def case(name: str, candidates: int, trials: int) -> tuple[SearchSpace, Codes, History]:
    """The space, a random pool and a history of random scores."""
    rng = np.random.default_rng(0)
    space = builtin("nb201") if name == "nb201" else WIDE
    enumerated = name == "nb201" and candidates == space.size
    pool = space.enumerate() if enumerated else space.sample(candidates, rng)
    none = np.zeros(trials, bool)
    return space, pool, History(space.sample(trials, rng), rng.normal(size=trials), none, none)


def milliseconds(ranker: str, name: str, candidates: int, trials: int, repeats: int) -> float:
    """The median time of a ranking, after a first one that loads modules and weights."""
    space, pool, history = case(name, candidates, trials)
    rank = make_ranker(ranker, space).rank
    times = []
    for repeat in range(repeats + 1):
        began = time.perf_counter()
        rank(pool, history, seed=repeat)
        times.append(time.perf_counter() - began)
    return 1000 * float(np.median(times[1:]))


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rankers", default="local")
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    for ranker in given.rankers.split(","):
        for name, candidates, trials in CASES:
            cost = milliseconds(ranker, name, candidates, trials, given.repeats)
            print(f"{ranker}: {candidates:,} of {name} against {trials:,} trials: {cost:.0f} ms")


if __name__ == "__main__":
    main()
