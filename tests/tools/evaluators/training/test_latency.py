from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lm_searcher.spaces.space import SearchSpace
from lm_searcher.tools.evaluators.training import latency
from lm_searcher.tools.evaluators.training.evaluator import TrainEvaluator
from lm_searcher.tools.evaluators.training.latency import (
    TIMED,
    WARM_UP,
    device_name,
    latency_ms,
    peak_memory,
)
from lm_searcher.tools.protocols import Evaluation


class Counting(nn.Module):
    """Counts its passes, each of one image, in evaluation mode and without gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.passes = 0

    def forward(self, images: Tensor) -> Tensor:
        assert images.shape == (1, 3, 8, 8) and not self.training
        assert not torch.is_grad_enabled()
        self.passes += 1
        return images * self.weight


def test_the_median_of_what_comes_after_the_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    # A pass takes 9 s while it warms up, then 1 s, 3 s or, the last one, a whole hour.
    spans = [9.0] * WARM_UP + [1.0] * 25 + [3.0] * (TIMED - 26) + [3600.0]
    ticks = iter([t for span in spans for t in (0.0, span)])
    monkeypatch.setattr(latency.time, "perf_counter", lambda: next(ticks))
    model = Counting()
    assert latency_ms(model, (3, 8, 8)) == 3000.0
    assert model.passes == WARM_UP + TIMED and model.training
    assert next(ticks, None) is None


def linear(config: dict[str, Any], *, in_channels: int, classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64 * in_channels, classes))


def test_latency_is_a_metric_where_it_is_asked_for() -> None:
    space = SearchSpace.of("one", {"a": [1, 2]}, builder=linear)
    evaluation = Evaluation(0, "0", {"a": 1}, 7)
    plain, timed = (TrainEvaluator(space, epochs=1, latency=on) for on in (False, True))
    before = plain.evaluate(evaluation, lambda step, value: False)
    after = dict(timed.evaluate(evaluation, lambda step, value: False))
    assert after.pop("latency_ms") > 0
    after.pop("memory_mb", None)
    assert after == {k: v for k, v in before.items() if k != "memory_mb"}
    assert timed.identity() == plain.identity() | {"latency": device_name()}
    assert device_name() and "latency" not in plain.identity()


def test_memory_is_that_of_an_accelerator() -> None:
    assert list(peak_memory()) == (["memory_mb"] if torch.cuda.is_available() else [])
