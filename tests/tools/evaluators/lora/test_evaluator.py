"""LoRA trials as a search runs them, on a base that took no training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch

from lm_searcher.agent.settings.build import from_run_file
from lm_searcher.agent.settings.run_file import RunFile, load_run_file
from lm_searcher.spaces.errors import ConfigError, UserError
from lm_searcher.spaces.lora.bases import language
from lm_searcher.spaces.lora.space import lora
from lm_searcher.spaces.settings import checked
from lm_searcher.tools.evaluators.lora.base_process import write
from lm_searcher.tools.evaluators.lora.evaluator import LoraEvaluator
from lm_searcher.tools.evaluators.lora.language.task import LanguageTask
from lm_searcher.tools.evaluators.lora.task import TaskSettings
from lm_searcher.tools.executors.evaluate_all import evaluate_all
from lm_searcher.tools.executors.local import LocalExecutor
from lm_searcher.tools.protocols import Evaluation, SlowlyPreparedEvaluator

NOTHING: Mapping[str, Any] = MappingProxyType({})


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> TaskSettings:
    """A little text to learn, and a base of random weights in the cache."""
    folder = tmp_path_factory.mktemp("lora")
    (folder / "text.txt").write_text("for word in words: print(word)\n" * 40)
    given = TaskSettings(
        base="builtin:language",
        folder=folder / "text.txt",
        epochs=2,
        batch_size=8,
        learning_rate=0.02,
        cache=folder / "cache",
        context=32,
    )
    torch.manual_seed(0)
    (folder / "cache").mkdir()
    write(language().state_dict(), LanguageTask(given).embedded_base.path(given.cache))
    return given


def run_file(
    settings: TaskSettings, evaluator: Mapping[str, Any] = NOTHING, **space: Any
) -> RunFile:
    own = {k: str(getattr(settings, k)) for k in ("folder", "cache")}
    numbers = {k: getattr(settings, k) for k in ("epochs", "batch_size", "learning_rate")}
    section = {"kind": "lora", "context": 32, **own, **numbers, **evaluator}
    document = {"space": {"name": "lora", **space}, "evaluator": section}
    return checked(RunFile, document, "test")


def evaluation(evaluator: LoraEvaluator, ncode: str, key: int = 0, seed: int = 5) -> Evaluation:
    return Evaluation(key, ncode, evaluator.space.decode(ncode), seed)


def made(
    settings: TaskSettings, evaluator: Mapping[str, Any] = NOTHING, **space: Any
) -> LoraEvaluator:
    _, found = from_run_file(run_file(settings, evaluator, **space))
    assert isinstance(found, LoraEvaluator)
    found.prepare()
    return found


def test_a_trial(settings: TaskSettings) -> None:
    evaluator = made(settings)
    assert (evaluator.metric, evaluator.direction) == ("val_perplexity", "min")
    said: list[tuple[int, float]] = []

    def report(step: int, value: float) -> bool:
        said.append((step, value))
        return False

    ncode = "012301230123"
    metrics = evaluator.evaluate(evaluation(evaluator, ncode), report)
    assert [step for step, _ in said] == [1, 2] and said[-1][1] == metrics["val_perplexity"]
    assert said[1][1] < said[0][1] < 250, "it learns"
    cost = evaluator.space.cost
    assert cost is not None
    exact = cost(evaluator.space.decode(ncode))
    assert {k: metrics[k] for k in exact} == exact
    assert metrics["seconds"] > 0 and metrics["epochs"] == 2
    again = evaluator.evaluate(evaluation(evaluator, ncode), lambda step, value: False)
    assert again["val_perplexity"] == metrics["val_perplexity"], "the same seed"
    other = evaluator.evaluate(evaluation(evaluator, ncode, seed=6), lambda step, value: True)
    assert other["epochs"] == 1 and other["val_perplexity"] != said[0][1]


def test_rank_0_everywhere_is_the_base(settings: TaskSettings) -> None:
    evaluator = made(settings, {"metric": "val_loss"})
    said: list[float] = []

    def report(step: int, value: float) -> bool:
        said.append(value)
        return False

    metrics = evaluator.evaluate(evaluation(evaluator, "0" * 12), report)
    assert said == [metrics["val_loss"]] and metrics["epochs"] == 0
    assert metrics["lora_params_m"] == metrics["trainable_share"] == 0
    other = evaluator.evaluate(evaluation(evaluator, "0" * 12, seed=6), report)
    assert other["val_loss"] == metrics["val_loss"], "no seed plays a part"


def test_ranks_and_alphas_of_groups(settings: TaskSettings) -> None:
    evaluator = made(settings, group=r"layers\.\d", ranks=[0, 1], alphas=[4, 16])
    assert len(evaluator.space.positions) == 6
    first, second = (
        evaluator.evaluate(evaluation(evaluator, ncode), lambda step, value: True)
        for ncode in ("100000", "100100")
    )
    assert first["lora_params_m"] == second["lora_params_m"] > 0
    assert first["val_perplexity"] != second["val_perplexity"], "alpha plays a part"


@pytest.mark.slow
def test_the_example_in_a_worker_process(settings: TaskSettings) -> None:
    changed = {"cache": str(settings.cache), "folder": str(settings.folder), "context": 32}
    example = Path(__file__).parents[4] / "examples" / "lora-language.toml"
    space, evaluator = from_run_file(load_run_file(example, {"evaluator": changed | {"epochs": 1}}))
    executor = LocalExecutor(evaluator, workers=1)
    try:
        wanted = [
            Evaluation(i, code * 12, space.decode(code * 12), 0) for i, code in enumerate("10")
        ]
        found = {e.ncode: o for e, o in evaluate_all(executor, wanted)}
    finally:
        executor.close()
    for outcome in found.values():
        assert outcome.reason is None
        assert 0 < outcome.metrics["memory_mb"] < 2000
    assert found["1" * 12].metrics["lora_params_m"] > 0


def test_what_is_compared_has_the_same_base_and_recipe(settings: TaskSettings) -> None:
    task = LanguageTask(settings)
    assert str(settings.folder) not in str(task.identity()), "not where files lie"
    for changed in ({"epochs": 3}, {"context": 64}, {"learning_rate": 0.1}, {"base": "a/b"}):
        assert LanguageTask(settings.changed(**changed)).identity() != task.identity()


@pytest.mark.parametrize(
    ("evaluator", "space", "said"),
    [
        ({"task": "langage"}, {}, "did you mean 'language'?"),
        (
            {},
            {"base": "builtin:segmenter"},
            "task 'language' cannot adapt base 'builtin:segmenter'",
        ),
        ({"metric": "val_los"}, {}, "did you mean 'val_loss'?"),
        ({"ranks": [1]}, {}, "unknown key in [evaluator] 'ranks'"),
        ({}, {"rank": [1, 2]}, "did you mean 'ranks'?"),
        ({}, {"name": "nb201"}, "kind = 'lora' with space 'nb201'; accepted: [space] name"),
        ({"epochs": 0}, {}, "[evaluator] epochs = 0"),
        ({"folder": "no-such.txt"}, {}, "text 'no-such.txt': no such file or folder"),
        ({"context": 1000}, {}, "tokens are too few for blocks of 1000"),
    ],
)
def test_mistakes_are_one_line(
    evaluator: dict[str, Any], space: dict[str, Any], said: str, settings: TaskSettings
) -> None:
    with pytest.raises(UserError) as caught:
        made(settings, evaluator, **space)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_training_that_diverges_is_a_failed_trial(settings: TaskSettings) -> None:
    evaluator = made(settings, {"learning_rate": 1e30})
    with pytest.raises(Exception, match="diverged: loss is"):
        evaluator.evaluate(evaluation(evaluator, "3" * 12), lambda step, value: False)


def test_the_api_refuses_a_metric_too() -> None:
    with pytest.raises(ConfigError, match="unknown metric"):
        LanguageTask(TaskSettings(base="builtin:language", metric="accuracy"))


def test_who_waits_for_a_base_is_told(settings: TaskSettings, tmp_path: Path) -> None:
    there = LoraEvaluator(lora(), LanguageTask(settings))
    missing = LoraEvaluator(lora(), LanguageTask(settings.changed(cache=tmp_path)))
    assert isinstance(there, SlowlyPreparedEvaluator) and there.note == ""
    assert missing.note == "training the base 'builtin:language' first, once; it is kept"
