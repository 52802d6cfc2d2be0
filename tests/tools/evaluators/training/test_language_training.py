from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from lm_searcher.agent.settings.build import from_run_file
from lm_searcher.agent.settings.run_file import RunFile, checked
from lm_searcher.spaces.errors import ConfigError, EvaluatorError, TrialFailure
from lm_searcher.spaces.nb201.space import nb201
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.spaces.transformer.space import transformer
from lm_searcher.tools.data.texts import load_text
from lm_searcher.tools.evaluators.training.evaluator import TrainEvaluator
from lm_searcher.tools.evaluators.training.language_training import RiseAndFall, mean_loss, windows
from lm_searcher.tools.evaluators.training.optimizers import optimizer_for
from lm_searcher.tools.evaluators.training.recipe import (
    TEXT,
    TRANSFORMER_ON_DIGITS,
    Recipe,
    recipe_for,
)
from lm_searcher.tools.protocols import Evaluation, Evaluator, Metrics

SPACE = transformer("decoder", widths=[32], layers=[2], heads=[2], hidden=[32])
NCODE = "000000"
SHORT: dict[str, Any] = {"dataset": "pydoc", "epochs": 1, "steps": 10, "context": 16}


def evaluate(evaluator: TrainEvaluator, seed: int = 0) -> Metrics:
    evaluation = Evaluation(0, NCODE, evaluator.space.decode(NCODE), seed)
    return evaluator.evaluate(evaluation, lambda step, value: False)


def unigram_loss() -> float:
    """Nats a byte of a model that knows how frequent each byte is, and no more."""
    text = load_text("pydoc", None, 16)
    counts = np.bincount(text.train, minlength=256) + 1
    return float(-np.log(counts / counts.sum())[text.valid].mean())


class Bigrams(nn.Module):
    """Logits that depend on the last symbol alone."""

    def __init__(self) -> None:
        super().__init__()
        table = torch.randn(256, 256, generator=torch.Generator().manual_seed(0))
        self.table = nn.Embedding.from_pretrained(table)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.table(x)
        return logits


@pytest.mark.slow
def test_a_tiny_decoder_learns_far_more_than_frequencies() -> None:
    evaluator = TrainEvaluator(SPACE, dataset="pydoc", epochs=2, context=32)
    curve: list[tuple[int, float]] = []

    def report(step: int, value: float) -> bool:
        curve.append((step, value))
        return False

    evaluator.prepare()
    metrics = evaluator.evaluate(Evaluation(0, NCODE, SPACE.decode(NCODE), 0), report)
    assert [step for step, _ in curve] == [1, 2]
    assert metrics["val_loss"] == curve[-1][1] < unigram_loss() - 0.5
    assert unigram_loss() < math.log(256) - 1.5
    assert metrics["val_bpb"] == metrics["val_loss"] / math.log(2)
    assert abs(metrics["test_loss"] - metrics["val_loss"]) < 0.5
    assert metrics["epochs"] == 2
    assert SPACE.cost is not None
    cost = SPACE.cost(SPACE.decode(NCODE), **evaluator.data.call, **SPACE.settings)
    assert {name: metrics[name] for name in cost} == cost


def test_it_is_an_evaluator_of_losses() -> None:
    evaluator: Evaluator = TrainEvaluator(SPACE, dataset="pydoc")
    assert (evaluator.metric, evaluator.direction) == ("val_loss", "min")
    assert len(cloudpickle.dumps(evaluator)) < 5_000


def test_the_same_seed_gives_the_same_values_and_another_seed_others() -> None:
    evaluator = TrainEvaluator(SPACE, **SHORT)
    first = evaluate(evaluator)
    torch.rand(7)
    assert evaluate(evaluator) == first
    assert evaluate(evaluator, seed=1)["val_loss"] != first["val_loss"]


def test_it_reports_the_objective() -> None:
    evaluator = TrainEvaluator(SPACE, **SHORT, metric="val_bpb")
    told: list[float] = []
    evaluation = Evaluation(0, NCODE, SPACE.decode(NCODE), 0)
    metrics = evaluator.evaluate(evaluation, lambda step, value: told.append(value) is not None)
    assert told == [metrics["val_bpb"]]


def test_it_stops_when_told_and_fails_when_it_diverges() -> None:
    evaluator = TrainEvaluator(SPACE, **SHORT | {"epochs": 5})
    evaluation = Evaluation(0, NCODE, SPACE.decode(NCODE), 0)
    assert evaluator.evaluate(evaluation, lambda step, value: step == 2)["epochs"] == 2
    with pytest.raises(TrialFailure, match=r"diverged: loss is (nan|inf) at epoch 1"):
        evaluate(TrainEvaluator(SPACE, **SHORT, learning_rate=1e30))


def test_a_text_is_measured_once_and_whole() -> None:
    text = torch.randint(256, (101,), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    rows = windows(text, 8)
    assert rows.shape == (12, 9)
    assert torch.equal(rows[:, :-1].flatten(), text[:96])
    assert torch.equal(rows[:, 1:].flatten(), text[1:97])
    model = Bigrams()
    requests = functional.cross_entropy(model(text[:96].long()), text[1:97].long())
    assert mean_loss(model, text, 8) == pytest.approx(float(requests), rel=1e-6)


def test_of_a_long_text_the_same_windows_are_measured() -> None:
    text = torch.arange(40_001).remainder(251).to(torch.uint8)
    model = Bigrams()
    rows = windows(text, 4)[::3].long()  # 10,000 windows: every third
    requests = functional.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())
    assert mean_loss(model, text, 4) == pytest.approx(float(requests), rel=1e-5)


def test_the_learning_rate_rises_and_falls() -> None:
    share = RiseAndFall(recipe_for("pydoc", epochs=2, steps=50))  # type: ignore[arg-type]
    shares = [share(step) for step in range(101)]
    assert shares[0] == 0.1 and shares[9] == shares[10] == max(shares) == 1
    assert shares[55] == pytest.approx(0.5) and shares[100] == pytest.approx(0)


def test_adamw_lets_no_vector_decay() -> None:
    model = nn.Linear(3, 3)
    groups = optimizer_for(model, TEXT).param_groups
    decays = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert decays == {id(model.weight): TEXT.weight_decay, id(model.bias): 0}


def test_recipes_know_their_optimizer() -> None:
    assert recipe_for("digits").optimizer == "sgd"
    adam = recipe_for("digits", optimizer="adamw", epochs=3, weight_decay=None)
    assert adam == replace(TRANSFORMER_ON_DIGITS, epochs=3)
    photographs = recipe_for("cifar10", optimizer="adamw", learning_rate=1.0)
    assert photographs.augment and photographs.optimizer == "adamw"
    assert (photographs.learning_rate, photographs.weight_decay) == (1.0, 0.05)
    assert recipe_for("text") == TEXT
    with pytest.raises(ConfigError, match="optimizer = 'adam'; accepted: sgd, adamw"):
        Recipe(1, 2, 0.1, 0.0, optimizer="adam")


def test_identity_has_the_text_and_not_its_place(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one text, " * 100)
    own = TrainEvaluator(SPACE, dataset="text", folder=tmp_path, context=8).identity()
    assert own["context"] == 8 and own["steps"] == TEXT.steps and len(own["digest"]) == 16
    assert str(tmp_path) not in str(own)
    assert own["digest"] != TrainEvaluator(SPACE, dataset="pydoc").identity()["digest"]
    assert "steps" not in TrainEvaluator(nb201()).identity()


@pytest.mark.parametrize(
    ("space", "dataset", "says"),
    [
        (transformer("encoder"), "pydoc", "builds networks for images, dataset 'pydoc' is text; "),
        (nb201(), "pydoc", "space 'nb201' builds networks for images"),
        (transformer("decoder"), "digits", "builds networks for text, dataset 'digits' is images;"),
    ],
)
def test_a_space_of_the_wrong_kind_is_one_clear_line(
    space: SearchSpace, dataset: str, says: str
) -> None:
    with pytest.raises(EvaluatorError) as error:
        TrainEvaluator(space, dataset=dataset).prepare()
    assert says in str(error.value)
    assert "accepted: dataset" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"dataset": "digits", "context": 8}, "context is no setting for dataset 'digits', images"),
        ({"dataset": "digits", "steps": 8}, "steps is no setting"),
        ({"dataset": "pydoc", "label_smoothing": 0.1}, "no setting for dataset 'pydoc', text"),
        ({"dataset": "pydoc", "steps": 0}, "steps = 0; accepted: integers >= 1"),
        ({"dataset": "pydoc", "context": 0}, "context = 0; accepted: integers >= 1"),
    ],
)
def test_a_setting_that_cannot_be_is_named(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        TrainEvaluator(SPACE, **given).prepare()


def test_a_run_file_gets_what_goes_with_a_transformer() -> None:
    def made(space: dict[str, Any], **evaluator: Any) -> TrainEvaluator:
        document = {"space": {"name": "transformer"} | space, "evaluator": {"kind": "train"}}
        document["evaluator"] |= evaluator
        found = from_run_file(checked(RunFile, document, "here"))[1]
        assert isinstance(found, TrainEvaluator)
        return found

    text = made({"layers": [1, 2]}, dataset="pydoc", steps=7, context=9)
    assert text.space.settings == {"tied": True} and len(text.space.positions) == 6
    assert text.recipe == recipe_for("pydoc", steps=7)
    text.prepare()
    image = made({"patch": 4}, dataset="digits")
    assert image.space.settings == {"patch": 4, "pooling": "mean"}
    assert image.recipe.optimizer == "adamw"
    image.prepare()
    assert made({}, optimizer="sgd").recipe.optimizer == "sgd"
    with pytest.raises(ConfigError, match="optimizer"):
        made({}, optimizer="adam")
