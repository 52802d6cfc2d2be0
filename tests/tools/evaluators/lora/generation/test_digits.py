"""Adapting the diffusion model of eight digits to the other two."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lm_searcher.agent.settings.build import from_run_file
from lm_searcher.agent.settings.run_file import load_run_file
from lm_searcher.spaces.errors import ConfigError, SpaceError
from lm_searcher.spaces.lora.diffuser import Diffuser
from lm_searcher.spaces.lora.space import lora
from lm_searcher.tools.evaluators.lora.base_process import write
from lm_searcher.tools.evaluators.lora.evaluator import LoraEvaluator
from lm_searcher.tools.evaluators.lora.generation import digit_classifier, digit_diffusion
from lm_searcher.tools.evaluators.lora.generation import digits as digits
from lm_searcher.tools.evaluators.lora.task import TaskSettings
from lm_searcher.tools.evaluators.lora.tasks import make_task
from lm_searcher.tools.protocols import Evaluation

EXAMPLE = Path(__file__).parents[5] / "examples" / "lora-generation.toml"
BASE = "builtin:diffuser"


def test_the_example_decides_on_each_attention_and_feed_forward_layer() -> None:
    space, evaluator = from_run_file(load_run_file(EXAMPLE))
    assert len(space.positions) == 21
    assert [p.name for p in space.positions][:4] == [
        "down.0.0.attn1", "down.0.0.attn2", "down.0.0.ff", "down.1.0.attn1",
    ]  # fmt: skip
    assert (evaluator.metric, evaluator.direction) == ("val_denoising_loss", "min")
    assert len(lora(BASE).positions) == 21  # without patterns: a module of each


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"metric": "accuracy"}, "unknown metric of task 'generation' 'accuracy'"),
        ({"folder": Path("x")}, "folder goes with the base of a diffusers pipeline"),
        ({"clip": Path("x")}, "clip goes with"),
        ({"image_size": 8}, "image_size goes with"),
        ({"context": 8}, "context is of task 'language'"),
        ({"epochs": 0}, "epochs = 0"),
    ],
)
def test_what_the_task_has_no_use_for_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make_task("generation", TaskSettings(BASE, **settings))


def test_without_diffusers_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    monkeypatch.delitem(sys.modules, "lm_searcher.spaces.lora.diffuser")
    with pytest.raises(SpaceError, match=r"pip install 'lm-searcher\[diffusion\]'"):
        lora(BASE)


def test_new_tokens_begin_at_the_mean_and_tell_no_digit_from_the_other() -> None:
    model = Diffuser()
    model.begin_new()
    noisy, at = torch.randn(1, 1, 8, 8).expand(3, -1, -1, -1), torch.full((3,), 500)
    with torch.no_grad():
        eight, nine, zero = model(noisy, at, torch.tensor([8, 9, 0]))
    assert torch.equal(eight, nine) and not torch.allclose(eight, zero)


def test_the_classifier_knows_real_digits() -> None:
    train = digit_diffusion.splits(new=False)["train"]
    fit = replace(digits.CLASSIFIER_FIT, epochs=5)
    judge = digit_classifier.train_classifier(*train, fit, noise=0.2, seed=0)
    images, labels = digit_diffusion.splits(new=False)["test"]
    assert digit_classifier.accuracy(judge, images, labels) > 0.9
    assert digit_classifier.accuracy(judge, images, (labels + 1) % 10) < 0.1


@pytest.fixture(scope="module")
def evaluator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoraEvaluator]:
    """One with a base that has hardly been trained, made in this process to save the imports."""
    cache = tmp_path_factory.mktemp("cache")
    run_file = load_run_file(EXAMPLE, {"evaluator": {"cache": cache, "epochs": 1}})
    _, made = from_run_file(run_file)
    assert isinstance(made, LoraEvaluator)
    task = made.task
    assert isinstance(task, digits.DigitsTask)
    judge = {"fit": asdict(replace(digits.CLASSIFIER_FIT, epochs=1)), "noise": 0.2}
    state = digit_diffusion.train_base(0, asdict(replace(digits.BASE_FIT, epochs=2)), judge)
    write(state, task.embedded_base.path(cache))
    made.prepare()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digits, "PASSES", 2)
        patch.setattr(digits, "REPEATS", 2)
        patch.setattr(digits, "SAMPLES", 20)
        yield made


@pytest.mark.slow
def test_a_trial_learns_and_can_be_repeated(evaluator: LoraEvaluator) -> None:
    code = "3210" * 5 + "3"
    told: list[tuple[int, float]] = []

    def run() -> dict[str, float]:
        evaluation = Evaluation(0, code, evaluator.space.decode(code), seed=3)
        told.clear()
        return dict(evaluator.evaluate(evaluation, lambda *step: bool(told.append(step))))

    first, again = run(), run()
    timed = {"seconds", "memory_mb"}
    assert {k: v for k, v in first.items() if k not in timed} == {
        k: v for k, v in again.items() if k not in timed
    }
    assert told == [(1, first["val_denoising_loss"])] and first["epochs"] == 1
    assert first["test_denoising_loss"] > 0 and 0 <= first["sample_accuracy"] <= 1
    assert evaluator.space.cost is not None
    cost = evaluator.space.cost(evaluator.space.decode(code))
    assert first["lora_params_m"] == cost["lora_params_m"]
    model = evaluator.task.base().eval()
    valid = digit_diffusion.splits(new=True)["valid"]
    untouched = digit_diffusion.probe_loss(model, digit_diffusion.scheduler(), valid, 2)
    assert first["val_denoising_loss"] < untouched


@pytest.mark.slow
def test_without_adapters_the_new_tokens_alone_learn(evaluator: LoraEvaluator) -> None:
    base, model = evaluator.task.base(), evaluator.task.base()
    model.requires_grad_(False)
    evaluator.task.fit(model, seed=0, report=lambda step, value: True)
    changed = {
        name
        for (name, before), after in zip(base.named_parameters(), model.parameters(), strict=True)
        if not torch.equal(before, after)
    }
    assert changed == {"new"}
