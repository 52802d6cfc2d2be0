from __future__ import annotations

from typing import Any

import pytest

from lm_searcher.agent.results.summary import origin
from lm_searcher.agent.search import Search
from lm_searcher.spaces.errors import ConfigError
from lm_searcher.spaces.nb201.space import nb201
from lm_searcher.tools.evaluators.function import FunctionEvaluator
from lm_searcher.tools.evaluators.training.evaluator import TrainEvaluator


def noisy(lucky: dict[str, float], seen: list[tuple[str, int]]) -> Any:
    """An evaluator in the process: a lucky first seed for some."""

    class Noisy:
        metric, direction, deterministic, inline = "value", "max", False, True

        def identity(self) -> dict[str, Any]:
            return {"kind": "noisy"}

        def prepare(self) -> None: ...

        def evaluate(self, evaluation: Any, report: Any) -> float:
            first = evaluation.ncode not in {ncode for ncode, _ in seen}
            seen.append((evaluation.ncode, evaluation.seed))
            return float(evaluation.ncode) + (lucky.get(evaluation.ncode, 0.0) if first else 0.0)

    return Noisy()


SPACE = {"a": [1, 2, 3, 4, 5, 6]}


def test_luck_does_not_name_the_incumbent() -> None:
    seen: list[tuple[str, int]] = []
    result = Search(SPACE, noisy({"0": 5.5}, seen), trials=6, store="memory").run()
    assert max(result.trials, key=lambda t: t.value or 0).ncode == "0"
    best = result.incumbent
    assert best is not None and (best.ncode, best.value, best.spread, best.seeds) == (
        "5",
        5.0,
        0.0,
        2,
    )
    confirmed = seen[6:]
    assert [ncode for ncode, _ in confirmed] == ["0", "0", "5", "5", "4", "4"]
    assert len({seed for _, seed in seen}) == 12, "every seed is fresh"


@pytest.mark.parametrize(("top", "seeds", "n"), [(0, 2, 0), (1, 3, 3), (2, 1, 2), (9, 1, 6)])
def test_as_many_as_were_asked_for(top: int, seeds: int, n: int) -> None:
    seen: list[tuple[str, int]] = []
    confirm = {"top": top, "seeds": seeds}
    Search(SPACE, noisy({}, seen), trials=6, store="memory", confirm=confirm).run()
    assert len(seen) == 6 + n


def test_what_is_confirmed_is_not_measured_again(tmp_path: Any) -> None:
    seen: list[tuple[str, int]] = []
    results = [
        Search(SPACE, noisy({}, seen), trials=6, folder=tmp_path, name="r").run() for _ in range(2)
    ]
    assert len(seen) == 12
    assert results[0].incumbent == results[1].incumbent


# -- at full fidelity -----------------------------------------------------------------------------


def budgeted(seen: list[tuple[int, float]]) -> Any:
    """A function whose order is the other way round at a budget above 1."""

    def measure(config: dict[str, int], budget: float) -> float:
        seen.append((config["a"], budget))
        return float(-config["a"] if budget > 1 else config["a"])

    return FunctionEvaluator(measure, inline=True, deterministic=True)


@pytest.mark.slow
def test_confirmation_at_full_fidelity_alone_chooses(tmp_path: Any) -> None:
    def search(**confirm: Any) -> tuple[Any, list[tuple[int, float]]]:
        seen: list[tuple[int, float]] = []
        keywords: dict[str, Any] = {"trials": 6, "folder": tmp_path, "name": "r"}
        return Search(SPACE, budgeted(seen), confirm=confirm, **keywords).run(), seen

    result, seen = search(top=2, seeds=1, budget=3.0)
    assert sorted(seen[:6]) == [(a, 1.0) for a in range(1, 7)]
    assert seen[6:] == [(6, 3.0), (5, 3.0)]
    best = result.incumbent
    assert best is not None and (best.ncode, best.value) == ("4", -5.0)  # by its own value: 6
    assert origin(result, best) == "mean of 1 fresh seeds at budget = 3"
    assert search(top=2, seeds=1, budget=3.0)[1] == []
    # At another fidelity they are made anew, and those before no longer count.
    result, seen = search(top=1, seeds=1)
    assert seen == [(6, 1.0)]
    best = result.incumbent
    assert best is not None and (best.ncode, best.value, best.seeds) == ("5", 6.0, 1)
    assert origin(result, best) == "mean of 1 fresh seeds"


@pytest.mark.parametrize(
    ("confirm", "says"),
    [
        ({"epochs": 3}, r"\[confirm\] epochs = 3 is no budget of this evaluator; accepted: budget"),
        ({"width": 2.0}, r"\[confirm\] width = 2 is no budget"),
        ({"budget": 0}, "budget = 0: input should be greater than 0"),
    ],
)
def test_a_fidelity_that_the_evaluator_does_not_know(confirm: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Search(SPACE, budgeted([]), confirm=confirm, store="memory")


def test_training_at_full_fidelity_is_checked_before_anything_runs() -> None:
    evaluator = TrainEvaluator(nb201(channels=2, cells=1), epochs=4, warmup=2)
    with pytest.raises(ConfigError, match="warmup = 2; accepted: integers from 0, below epochs"):
        Search(evaluator.space, evaluator, confirm={"epochs": 2}, store="memory")
    evaluator = TrainEvaluator(nb201(channels=2, cells=1))
    pruner = {"name": "median"}
    with pytest.raises(ConfigError, match="'params_m'; known after each epoch: val_accuracy"):
        Search(evaluator.space, evaluator, metric="params_m", pruner=pruner, store="memory")
