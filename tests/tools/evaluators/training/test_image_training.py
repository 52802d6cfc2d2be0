from __future__ import annotations

import random
import shutil
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lm_searcher.spaces.nb201.space import nb201
from lm_searcher.spaces.space import Choice, SearchSpace
from lm_searcher.tools.data.image_dataset import Dataset
from lm_searcher.tools.evaluators.training import image_training
from lm_searcher.tools.evaluators.training.acceleration import Forward, draws_on_processor, graphed
from lm_searcher.tools.evaluators.training.augment import cutout
from lm_searcher.tools.evaluators.training.device_split import DeviceSplit
from lm_searcher.tools.evaluators.training.evaluator import TrainEvaluator
from lm_searcher.tools.evaluators.training.recipe import Recipe
from lm_searcher.tools.protocols import Evaluation, Metrics

SPACE = nb201(channels=2, cells=1)


def evaluate(evaluator: TrainEvaluator, curve: list[float] | None = None) -> Metrics:
    def report(step: int, value: float) -> bool:
        if curve is not None:
            curve.append(value)
        return False

    ncode = "333333" if len(evaluator.space.positions) == 6 else "0"
    config = evaluator.space.decode(ncode)
    return evaluator.evaluate(Evaluation(0, ncode, config, 0), report)


class TwoHeads(nn.Module):
    """Logits that the images decide, and an auxiliary head that nothing else trains."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.main, self.beside = nn.Linear(64, classes), nn.Linear(64, classes)
        nn.init.zeros_(self.beside.weight)
        self.auxiliary_logits: Tensor | None = None
        self.told: list[tuple[int, int]] = []

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        self.told.append((epoch, epochs))

    def forward(self, images: Tensor) -> Tensor:
        images = images.flatten(1)
        self.auxiliary_logits = self.beside(images) if self.training else None
        logits: Tensor = self.main(images)
        return logits


BUILT: list[TwoHeads] = []


def two_heads(config: Mapping[str, Choice], *, in_channels: int, classes: int) -> nn.Module:
    BUILT.append(TwoHeads(classes))
    return BUILT[-1]


def test_the_rate_rises_in_equal_steps_and_falls_along_a_cosine() -> None:
    recipe = Recipe(4, 2, 0.1, 0.0, warmup=1)
    rates = [recipe.rate(step, steps=3) for step in range(13)]
    assert rates[:4] == [1 / 3, 2 / 3, 1.0, 1.0]
    falling = [(1 + np.cos(np.pi * k / 9)) / 2 for k in range(10)]
    assert np.allclose(rates[3:], falling)
    plain = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(plain, 12)
    for step in range(12):
        assert Recipe(4, 2, 0.1, 0.0).rate(step, 3) == pytest.approx(plain.param_groups[0]["lr"])
        plain.step()
        schedule.step()


def test_what_is_new_is_no_part_of_an_older_runs_identity() -> None:
    old = Recipe(4, 2, 0.1, 0.0)
    assert list(old.identity()) == [
        "epochs", "batch_size", "learning_rate", "weight_decay", "label_smoothing", "augment",
    ]  # fmt: skip
    assert Recipe(4, 2, 0.1, 0.0, cutout=3, width=0.5).identity() == old.identity() | {
        "cutout": 3,
        "width": 0.5,
    }


def test_cutout_takes_one_square_of_each_image() -> None:
    images = torch.ones(500, 2, 5, 7)
    out = cutout(images, 3, torch.Generator().manual_seed(0))
    gone = out == 0
    assert bool((gone | (out == 1)).all()) and torch.equal(gone[:, 0], gone[:, 1])
    rows, columns = gone[:, 0].any(2).sum(1), gone[:, 0].any(1).sum(1)
    assert torch.equal(gone[:, 0].sum((1, 2)), rows * columns)  # it is a rectangle
    # Of a side of 5, a centre at either end leaves 2 of 3 pixels: 3/5 of the images lose 3 rows.
    assert set(rows.tolist()) == {2, 3} and 0.5 < float((rows == 3).float().mean()) < 0.7
    assert set(columns.tolist()) == {2, 3}
    assert torch.equal(
        cutout(images, 1, torch.Generator()).sum((1, 2, 3)), torch.full((500,), 68.0)
    )


@pytest.mark.parametrize("weight", [0.0, 0.4])
def test_an_auxiliary_head_learns_if_its_loss_counts(weight: float) -> None:
    space = SearchSpace.of("own", {"width": [1, 2]}, builder=two_heads)
    metrics = evaluate(TrainEvaluator(space, epochs=2, auxiliary_weight=weight))
    assert metrics["val_accuracy"] > 0.4
    assert bool(BUILT[-1].beside.weight.any()) is (weight > 0)
    assert BUILT[-1].told == [(1, 2), (2, 2)]


def test_the_gradients_norm_is_cut() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    before = [w.detach().clone() for w in model.parameters()]
    recipe = Recipe(1, 8, 1.0, 0.0, gradient_clip=0.01)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    one = torch.ones(1, 1, 1)
    split = DeviceSplit(torch.randn(8, 1, 2, 2), torch.tensor([0, 1] * 4), 0 * one, one)
    image_training.run_epoch(
        Forward(model, False), optimizer, schedule, split, recipe, torch.Generator()
    )
    moved = [w.detach() - old for w, old in zip(model.parameters(), before, strict=True)]
    assert float(torch.cat([m.flatten() for m in moved]).norm()) == pytest.approx(0.01, rel=1e-3)


def test_the_objective_is_what_is_reported() -> None:
    evaluator = TrainEvaluator(SPACE, epochs=2, metric="val_loss", direction="min")
    curve: list[float] = []
    metrics = evaluate(evaluator, curve)
    assert curve[-1] == metrics["val_loss"] != metrics["val_accuracy"]


def test_the_parts_of_a_trial_are_told() -> None:
    parts: list[str] = []

    class Told(TrainEvaluator):
        def lap(self, part: str) -> None:
            parts.append(part)

    evaluate(Told(SPACE, epochs=2))
    assert parts == ["ready", "train", "validate", "train", "validate", "test"]


def test_a_smaller_budget() -> None:
    whole = evaluate(TrainEvaluator(nb201(channels=4, cells=1), epochs=1))
    narrow = TrainEvaluator(nb201(channels=4, cells=1), epochs=1, width=0.5, data_fraction=0.3)
    assert isinstance(narrow.data, Dataset)
    assert len(narrow.data.train[1]) == 300
    assert narrow.identity()["width"] == 0.5 and narrow.identity()["data_fraction"] == 0.3
    metrics = evaluate(narrow)
    assert metrics["params_m"] == evaluate(TrainEvaluator(SPACE, epochs=1))["params_m"]
    assert metrics["params_m"] < whole["params_m"]


def test_a_confirmation_has_the_full_budget() -> None:
    low = TrainEvaluator(nb201(channels=4, cells=1), epochs=1, width=0.5, data_fraction=0.3)
    ncode = "333333"
    asked = Evaluation(0, ncode, low.space.decode(ncode), 0, {"epochs": 2, "width": 1})
    metrics = low.evaluate(asked, lambda *_: False)
    full = TrainEvaluator(low.space, epochs=2, data_fraction=0.3)
    assert metrics == full.evaluate(replace(asked, budget={}), lambda *_: False)
    assert metrics["epochs"] == 2


class Cell(nn.Module):
    """What draws random numbers: a generator of Python, of NumPy, of torch, or none."""

    def __init__(self, draw: Any) -> None:
        super().__init__()
        self.norm, self.linear, self.draw = nn.BatchNorm1d(4), nn.Linear(4, 2), draw

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.linear(self.norm(images)) + self.draw()
        return out


@pytest.mark.parametrize("draw", [random.random, np.random.rand, lambda: torch.rand(1)])
def test_random_numbers_outside_the_gpu_are_noticed(draw: Any) -> None:
    assert draws_on_processor(Cell(draw), torch.ones(3, 4))
    assert not draws_on_processor(Cell(lambda: 1.0), torch.ones(3, 4))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: it would be recorded")
def test_a_network_that_cannot_be_recorded_runs_as_it_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    forward, images = Forward(Cell(lambda: 0.0), False), torch.randn(8, 4)
    expected = forward(images)[0]
    seen = {name: buffer.clone() for name, buffer in forward.named_buffers()}
    run = graphed(forward, images)
    assert "cuda_graph: not recorded, going on without: " in capsys.readouterr().err
    assert all(torch.equal(buffer, seen[name]) for name, buffer in forward.named_buffers())
    assert torch.equal(run(images)[0], expected)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own modules
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile wants a C++ compiler")
def test_a_compiled_network_learns_as_the_network_does() -> None:
    space = SearchSpace.of("own", {"width": [1, 2]}, builder=two_heads)
    settings: dict[str, Any] = {"epochs": 2, "auxiliary_weight": 0.4}
    plain = evaluate(TrainEvaluator(space, **settings))
    done = torch._dynamo.utils.counters["stats"]["calls_captured"]
    compiled = evaluate(TrainEvaluator(space, **settings, compile=True))
    assert torch._dynamo.utils.counters["stats"]["calls_captured"] > done
    assert compiled == pytest.approx(plain, abs=0.01)
