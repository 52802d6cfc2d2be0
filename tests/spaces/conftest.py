"""What the tests of every space of networks share."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lm_searcher.spaces.ncode import to_ncodes
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.tools.importing import resolve

CLASSES = 3


def covering_sample(space: SearchSpace, least: int = 150) -> list[str]:
    """At least `least` codes in which every two options of different positions meet.

    A greedy pairwise covering array: the positions of a code are set in random order, each to the
    option that brings the most new pairs with those already set. The same space gives the same
    codes.
    """
    sizes = [len(p.choices) for p in space.positions]
    options = max(sizes)
    rng = np.random.default_rng(0)
    new = np.zeros((len(sizes), options, len(sizes), options), bool)  # pairs that have not met
    for a, b in itertools.permutations(range(len(sizes)), 2):
        new[a, : sizes[a], b, : sizes[b]] = True
    rows: list[np.ndarray] = []
    while new.any() or len(rows) < least:
        row = np.zeros(len(sizes), np.uint8)
        # The option with the most new pairs comes first, so that every code brings some.
        first, row_first = divmod(int(new.sum(axis=(2, 3)).argmax()), options)
        order = [first, *(int(a) for a in rng.permutation(len(sizes)) if a != first)]
        row[first] = row_first if new.any() else rng.integers(sizes[first])
        for done, a in enumerate(order[1:], start=1):
            before = order[:done]
            gains = new[a, : sizes[a], before, row[before]].sum(axis=0)
            row[a] = rng.choice(np.flatnonzero(gains == gains.max()))
        new[np.arange(len(sizes))[:, None], row[:, None], np.arange(len(sizes)), row] = False
        rows.append(row)
    return to_ncodes(np.array(rows))


def random_sample(space: SearchSpace) -> list[str]:
    """A thousand random codes."""
    return to_ncodes(space.sample(1000, np.random.default_rng(0)))


@pytest.fixture(
    params=[
        pytest.param(covering_sample, id="every pair of options"),
        pytest.param(random_sample, id="a thousand", marks=pytest.mark.nightly),
    ]
)
def ncodes_of(request: pytest.FixtureRequest) -> Callable[[SearchSpace], list[str]]:
    """Chooses the codes of a space to build: a covering sample, and nightly a thousand."""
    chosen: Callable[[SearchSpace], list[str]] = request.param
    return chosen


def builds_and_trains(
    space: SearchSpace, ncodes: Sequence[str], *, side: int = 8, counted: int = 30
) -> None:
    """The architectures are built and go forward and backward on two images, with exactly the
    parameters that `cost` says; the operations of the first `counted` are checked as well.
    """
    torch.manual_seed(0)
    builder: Callable[..., torch.nn.Module] = resolve(str(space.builder), "builder", ValueError)
    assert space.cost is not None
    images = torch.randn(2, 1, side, side)
    call: dict[str, Any] = {"in_channels": 1, "classes": CLASSES, **space.settings}
    for row, ncode in enumerate(ncodes):
        config = space.decode(ncode)
        model = builder(config, **call)
        cost = space.cost(config, image_size=side, **call)
        assert round(cost["params_m"] * 1e6) == sum(p.numel() for p in model.parameters()), ncode
        logits = model(images)
        assert logits.shape == (2, CLASSES) and torch.isfinite(logits).all(), ncode
        logits.square().sum().backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        assert gradients and all(torch.isfinite(g).all() for g in gradients), ncode
        if row < counted:
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                model.eval()(images[:1])
            assert round(cost["flops_m"] * 1e6) == counter.get_total_flops(), ncode


@pytest.fixture(name="covering_sample")
def covering_sample_fixture() -> Callable[..., list[str]]:
    """The function of this name."""
    return covering_sample


@pytest.fixture(name="builds_and_trains")
def fixture() -> Callable[..., None]:
    """The function of this name: it asserts."""
    return builds_and_trains
