from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest
import torch
from torch import nn

from lm_searcher.spaces.errors import ConfigError, DatasetError, EvaluatorError, TrialFailure
from lm_searcher.spaces.nb201.space import flops, nb201, parameters
from lm_searcher.spaces.space import Choice, SearchSpace
from lm_searcher.tools.evaluators.training.augment import crop_and_flip
from lm_searcher.tools.evaluators.training.evaluator import TrainEvaluator
from lm_searcher.tools.evaluators.training.recipe import NB201_ON_DIGITS, RECIPES
from lm_searcher.tools.protocols import Evaluation, Evaluator, Metrics

SPACE = nb201(channels=4, cells=1)
NCODE = "421302"


def evaluation(space: SearchSpace = SPACE, ncode: str = NCODE, seed: int = 0) -> Evaluation:
    return Evaluation(key=0, ncode=ncode, config=space.decode(ncode), seed=seed)


def go_on(step: int, value: float) -> bool:
    return False


def evaluate(evaluator: TrainEvaluator, seed: int = 0) -> Metrics:
    return evaluator.evaluate(evaluation(evaluator.space, seed=seed), go_on)


def photographs() -> Any:
    rng = np.random.default_rng(0)

    def split(n: int) -> Any:
        return rng.integers(0, 256, (n, 3, 8, 8), dtype=np.uint8), np.arange(n) % 2

    return split(30), split(5), split(7)


def panoramas() -> Any:
    rng = np.random.default_rng(0)

    def split(n: int) -> Any:
        return rng.integers(0, 256, (n, 3, 8, 24), dtype=np.uint8), np.arange(n) % 2

    return split(30), split(5), split(7)


def flat(config: Mapping[str, Choice], *, in_channels: int, classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))


def no_module(config: Mapping[str, Choice], *, in_channels: int, classes: int) -> object:
    return "a network"


def of_another_kind(config: Mapping[str, Choice]) -> nn.Module:
    return nn.Identity()


def space_of(builder: Any) -> SearchSpace:
    return SearchSpace.of("own", {"width": [1, 2]}, builder=builder)


def test_it_is_an_evaluator() -> None:
    evaluator: Evaluator = TrainEvaluator(SPACE)
    assert (evaluator.metric, evaluator.direction) == ("val_accuracy", "max")


def test_digits_are_learned_and_everything_is_measured() -> None:
    evaluator = TrainEvaluator(SPACE, epochs=3, batch_size=50, learning_rate=0.1)
    evaluator.prepare()
    curve: list[tuple[int, float]] = []

    def report(step: int, value: float) -> bool:
        curve.append((step, value))
        return False

    metrics = evaluator.evaluate(evaluation(), report)
    assert [step for step, _ in curve] == [1, 2, 3]
    assert curve[-1][1] == metrics["val_accuracy"] > 0.8
    assert 0.8 < metrics["test_accuracy"] <= 1
    assert 0 < metrics["train_loss"] < 1
    assert metrics["params_m"] == parameters(NCODE, 4, 1, 10, in_channels=1) / 1e6
    assert metrics["flops_m"] == flops(NCODE, 4, 1, 10, in_channels=1, image_size=8) / 1e6
    assert metrics["epochs"] == 3


def test_the_same_seed_gives_the_same_values_and_another_seed_others() -> None:
    evaluator = TrainEvaluator(SPACE, epochs=1, batch_size=50)
    first = evaluate(evaluator)
    torch.rand(7)  # what ran before does not matter
    assert evaluate(evaluator) == first
    assert evaluate(evaluator, seed=1)["val_loss"] != first["val_loss"]


def test_it_stops_when_told() -> None:
    evaluator = TrainEvaluator(SPACE, epochs=5)
    metrics = evaluator.evaluate(evaluation(), lambda step, value: step == 2)
    assert metrics["epochs"] == 2
    assert "test_accuracy" in metrics


def test_a_loss_that_is_no_number_fails_the_trial() -> None:
    with pytest.raises(TrialFailure, match=r"diverged: loss is (nan|inf) at epoch 1"):
        evaluate(TrainEvaluator(SPACE, epochs=2, learning_rate=1e30))


def test_the_users_own_data_and_builder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    evaluator = TrainEvaluator(SPACE, dataset="test_evaluator:photographs", epochs=1)
    evaluator.prepare()
    metrics = evaluate(evaluator)  # 30 images make one batch, smaller than the recipe's
    assert np.isfinite(metrics["val_loss"])
    for builder in (flat, "test_evaluator:flat"):
        evaluator = TrainEvaluator(space_of(builder), epochs=1)
        evaluator.prepare()
        metrics = evaluator.evaluate(evaluation(evaluator.space, "0"), go_on)
        assert metrics["params_m"] == 650 / 1e6
        assert metrics["flops_m"] == 2 * 640 / 1e6


@pytest.mark.parametrize(
    ("builder", "says"),
    [
        (None, "space 'own' has no builder"),
        ("nowhere:build", "builder of space 'own' 'nowhere:build': cannot import 'nowhere'"),
        ("torch.nn:Lineal", "no attribute 'Lineal'"),
        ("build", 'accepted is "module:function"'),
        (of_another_kind, "cannot be called as builder(config, in_channels=1, classes=10): got"),
    ],
)
def test_a_wrong_builder_is_one_clear_line(builder: Any, says: str) -> None:
    with pytest.raises(EvaluatorError) as error:
        TrainEvaluator(space_of(builder)).prepare()
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_a_builder_that_returns_no_model_is_named() -> None:
    evaluator = TrainEvaluator(space_of(no_module))
    with pytest.raises(EvaluatorError, match=r"returned a str; accepted: a torch\.nn\.Module"):
        evaluator.evaluate(evaluation(evaluator.space, "0"), go_on)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"epochs": 0}, "epochs = 0; accepted: integers >= 1"),
        ({"batch_size": 1}, "batch_size = 1"),
        ({"learning_rate": float("nan")}, "learning_rate = nan"),
        ({"weight_decay": -1.0}, "weight_decay = -1.0"),
        ({"label_smoothing": 1.0}, "label_smoothing = 1.0"),
        ({"cutout": -1}, "cutout = -1; accepted: integers >= 0"),
        ({"gradient_clip": -1.0}, "gradient_clip = -1.0"),
        ({"auxiliary_weight": -1.0}, "auxiliary_weight = -1.0"),
        ({"warmup": 8}, "warmup = 8; accepted: integers from 0, below epochs = 8"),
        ({"data_fraction": 1.5}, "data_fraction = 1.5; accepted: 0 < number <= 1"),
        ({"width": 0.0}, "width = 0.0; accepted: numbers > 0"),
        ({"compile": True, "cuda_graph": True}, "compile and cuda_graph are both true"),
    ],
)
def test_a_bad_setting_is_named(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        TrainEvaluator(SPACE, **settings).prepare()


def test_a_width_wants_a_space_with_channels() -> None:
    with pytest.raises(ConfigError, match=r"width = 0\.5 scales the setting `channels`, which"):
        TrainEvaluator(space_of(flat), width=0.5).prepare()


def test_missing_data_is_said_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="data_batch_1"):
        TrainEvaluator(SPACE, dataset="cifar10", folder=tmp_path).prepare()


def test_identity_names_what_makes_values_comparable() -> None:
    identity = TrainEvaluator(SPACE, epochs=2, folder="anywhere").identity()
    assert identity["kind"] == "train"
    assert identity["settings"] == {"channels": 4, "cells": 1}
    assert identity["epochs"] == 2
    assert identity["batch_size"] == RECIPES["digits"].batch_size
    assert "folder" not in identity
    assert nb201(**NB201_ON_DIGITS).settings == NB201_ON_DIGITS


@pytest.mark.parametrize("wide", [False, True])
def test_operations_are_those_of_the_images(wide: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted where the formulas, which are of square images, do not hold."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    name = "panoramas" if wide else "photographs"
    evaluator = TrainEvaluator(SPACE, dataset=f"test_evaluator:{name}", epochs=1, batch_size=10)
    formula = flops(NCODE, 4, 1, classes=2, in_channels=3, image_size=8) / 1e6
    found = evaluate(evaluator)["flops_m"]
    assert found > 2 * formula if wide else found == formula
    known = evaluator.costs(SPACE.codes([NCODE]), ["flops_m", "params_m"])
    assert set(known) == ({"params_m"} if wide else {"params_m", "flops_m"})


def test_it_travels_without_its_data() -> None:
    evaluator = TrainEvaluator(SPACE)
    evaluator.prepare()
    assert len(cloudpickle.dumps(evaluator)) < 5_000


FORKED = """
import os
import sys
from lm_searcher.spaces.nb201.space import nb201
from lm_searcher.tools.evaluators.training.evaluator import TrainEvaluator
from lm_searcher.tools.protocols import Evaluation

space = nb201(channels=2, cells=1)
evaluator = TrainEvaluator(space, epochs=1)
evaluator.prepare()
assert len(os.listdir("/proc/self/task")) == 1, "prepare() started a thread"
known = set(sys.modules)
if (child := os.fork()) == 0:
    evaluator.evaluate(Evaluation(0, "421302", space.decode("421302"), 0), lambda *_: False)
    late = {name for name in set(sys.modules) - known if name.startswith("lm_searcher")}
    os._exit(len(late))  # each trial would import them anew
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads in /proc")
def test_a_trial_can_be_forked_after_prepare() -> None:
    # One BLAS thread, as in a worker: numpy's own pool starts when numpy is imported.
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", FORKED], check=True, timeout=60, env=environment)


def test_crops_and_mirror_images_are_of_the_image() -> None:
    images = torch.arange(1, 2 * 3 * 5 * 6 + 1, dtype=torch.float32).view(2, 3, 5, 6)
    generator = torch.Generator().manual_seed(0)
    whole = mirrored = 0
    for _ in range(300):
        out = crop_and_flip(images, generator)
        assert out.shape == images.shape
        for image, changed in zip(images, out, strict=True):
            whole += torch.equal(changed, image)
            mirrored += torch.equal(changed, image.flip(2))
            inside = changed[changed != 0]
            assert torch.isin(inside, image).all()
            assert len(inside.unique()) == len(inside)
    # One in 9 x 9 shifts is none, one of two images is mirrored: 600 / 162 expected of either.
    assert whole > 0
    assert mirrored > 0


def test_cifar_trains_with_augmentation(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for file, rows in (("train", 20), ("test", 10)):
        images = rng.integers(0, 256, (rows, 3072), dtype=np.uint8)
        batch = {b"data": images, b"fine_labels": list(range(rows))}
        (tmp_path / file).write_bytes(pickle.dumps(batch))
    evaluator = TrainEvaluator(SPACE, dataset="cifar100", folder=tmp_path, epochs=2)
    assert evaluator.recipe.augment
    metrics = evaluate(evaluator)
    assert metrics["flops_m"] == flops(NCODE, 4, 1, classes=100) / 1e6
