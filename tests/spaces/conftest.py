"""What the tests of every space of networks share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lm_searcher.spaces.ncode import to_ncodes
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.tools.importing import resolve

CLASSES = 3


def builds_and_trains(space: SearchSpace, codes: int, *, side: int = 8, counted: int = 30) -> None:
    """`codes` random architectures are built and go forward and backward on two images, with
    exactly the parameters that `cost` says; of the first `counted` the operations are, too.
    """
    torch.manual_seed(0)
    builder: Callable[..., torch.nn.Module] = resolve(str(space.builder), "builder", ValueError)
    assert space.cost is not None
    images = torch.randn(2, 1, side, side)
    call: dict[str, Any] = {"in_channels": 1, "classes": CLASSES, **space.settings}
    for row, ncode in enumerate(to_ncodes(space.sample(codes, np.random.default_rng(0)))):
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


@pytest.fixture(name="builds_and_trains")
def fixture() -> Callable[..., None]:
    """The function of this name: it asserts."""
    return builds_and_trains
