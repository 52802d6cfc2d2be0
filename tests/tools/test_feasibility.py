"""What is known of an architecture before it is trained."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from lm_searcher.spaces.constraints import Constraint
from lm_searcher.spaces.errors import ConfigError, EvaluatorError, NCodeError, TableError
from lm_searcher.spaces.history import History
from lm_searcher.spaces.ncode import Codes, to_ncodes
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.spaces.subspace import Subspace
from lm_searcher.spaces.tables import Table
from lm_searcher.tools.evaluators.command import CommandEvaluator
from lm_searcher.tools.evaluators.table import TableEvaluator
from lm_searcher.tools.evaluators.training.evaluator import TrainEvaluator
from lm_searcher.tools.feasibility import Feasibility
from lm_searcher.tools.proposer import Proposer
from lm_searcher.tools.protocols import CostedEvaluator, Evaluation, Metrics, Report

SPACE = SearchSpace.of("s", {"a": [1, 2, 3], "b": [1, 2, 3]})
CODES = SPACE.enumerate()


def bounds(*texts: str) -> list[Constraint]:
    return [Constraint.parse(text) for text in texts]


@dataclass
class Costed:
    """An evaluator with costs by formula; counts the architectures whose costs are computed."""

    computed: int = 0
    metric: str = "value"
    direction: str = "max"
    deterministic: bool = True
    inline: bool = True
    unknown: set[str] = field(default_factory=set)

    def identity(self) -> dict[str, Any]:
        return {}

    def prepare(self) -> None: ...

    def evaluate(self, evaluation: Evaluation, report: Report) -> Metrics:
        raise NotImplementedError

    def costs(self, codes: Codes, metrics: Collection[str]) -> Mapping[str, NDArray[np.float64]]:
        self.computed += len(codes)
        total = codes.sum(axis=1).astype(np.float64)
        total[[ncode in self.unknown for ncode in to_ncodes(codes)]] = np.nan
        costs = {"sum": total, "first": codes[:, 0].astype(np.float64)}
        return {name: costs[name] for name in metrics if name in costs}


def feasibility(evaluator: CostedEvaluator, *texts: str) -> Feasibility:
    found = Feasibility.of(SPACE, evaluator, bounds(*texts))
    assert found is not None
    return found


def test_only_constraints_on_costs_count() -> None:
    assert Feasibility.of(SPACE, Costed(), bounds("latency_ms <= 1")) is None
    assert Feasibility.of(SPACE, Costed(), []) is None
    assert Feasibility.of(SPACE, CommandEvaluator("true"), bounds("sum <= 1")) is None
    found = feasibility(Costed(), "latency_ms <= 1", "sum <= 2", "first >= 1")
    assert str(found) == "sum <= 2 and first >= 1"
    assert to_ncodes(CODES[found.feasible(CODES)]) == ["10", "11", "20"]
    assert found.violations(SPACE.codes(["10", "22", "01", "00"])).tolist() == [0, 1, 1, 1]


def test_costs_are_computed_once() -> None:
    evaluator = Costed()
    found = feasibility(evaluator, "sum <= 2")
    for _ in range(3):
        found.feasible(CODES)
    assert evaluator.computed == 1 + 9


def test_an_unknown_cost_is_no_violation() -> None:
    found = feasibility(Costed(unknown={"22"}), "sum <= 2")
    assert to_ncodes(CODES[~found.feasible(CODES)]) == ["12", "21"]
    assert found.check("22") == "22"


def test_an_infeasible_architecture_is_refused() -> None:
    found = feasibility(Costed(), "sum <= 2", "first >= 1")
    assert found.check("11") == "11"
    with pytest.raises(NCodeError, match=r"'22'.* sum = 4.* sum <= 2"):
        found.check("22")
    with pytest.raises(NCodeError, match=r"'02'.* first = 0.* first >= 1"):
        found.check("02")
    with pytest.raises(NCodeError, match="3 digits"):
        found.check("222")


def test_pools_hold_only_feasible_candidates() -> None:
    proposer = Proposer(SPACE, feasibility=feasibility(Costed(), "sum <= 2"))
    none, full = History.empty(2), Subspace.full(SPACE)
    pool = proposer.pool(none, full, np.random.default_rng(0))
    assert sorted(to_ncodes(pool)) == ["00", "01", "02", "10", "11", "20"]
    assert proposer.exception == " but for what breaks sum <= 2"
    inside = Subspace(SPACE, ("2", "2"))  # memory kept only infeasible options
    assert len(proposer.pool(none, inside, np.random.default_rng(0))) == 6
    names = r"space 's' .*sum <= -1 and first >= 1; .*sum is 0, .*first is 2"
    with pytest.raises(ConfigError, match=names):
        Proposer(SPACE, feasibility=feasibility(Costed(), "sum <= -1", "first >= 1"))


def test_each_code_of_a_class_counts_with_its_own_cost() -> None:
    mirrored = SearchSpace.of(
        "m", {"a": [0, 1, 2], "b": [0, 1, 2]}, canonical_form=lambda n: "".join(sorted(n))
    )
    found = Feasibility.of(mirrored, Costed(), bounds("first >= 2"))
    pool = Proposer(mirrored, feasibility=found).pool(
        History.empty(2), Subspace.full(mirrored), np.random.default_rng(0)
    )
    assert sorted(to_ncodes(pool)) == ["20", "21", "22"]


# -- evaluators with costs -------------------------------------------------------------------------


def test_a_tables_known_metrics_are_costs() -> None:
    rows = np.array([[0, 0], [0, 1], [0, 1]], np.uint8)
    metrics = {"acc": np.array([1.0, 2.0, 3.0]), "size": np.array([4.0, 5.0, 7.0])}
    evaluator = TableEvaluator(Table(SPACE, rows, metrics, {}), "acc", known=["size"])
    costs = evaluator.costs(SPACE.codes(["00", "01", "22"]), ["acc", "size"])
    assert list(costs) == ["size"]
    assert costs["size"][:2].tolist() == [4.0, 6.0] and np.isnan(costs["size"][2])
    assert TableEvaluator(evaluator.table, "acc").costs(rows, ["acc", "size"]) == {}
    wrong = TableEvaluator(evaluator.table, "acc", known=["sise"])
    with pytest.raises(TableError, match="unknown metric 'sise'; did you mean 'size'"):
        wrong.prepare()
    with pytest.raises(TableError, match="unknown metric 'sise'"):
        wrong.costs(rows, ["sise"])


MLP = SearchSpace.of("mlp", {"width": [4, 8], "bias": [True, False]})


def mlp(config: dict[str, Any], *, in_channels: int, classes: int) -> nn.Module:
    if config == {"width": 8, "bias": False}:
        raise ValueError("cannot be built")
    width, bias = config["width"], config["bias"]
    return nn.Sequential(
        nn.Flatten(), nn.Linear(in_channels * 64, width, bias), nn.Linear(width, classes, bias)
    )


def test_parameters_are_counted_on_no_device() -> None:
    evaluator = TrainEvaluator(SearchSpace(MLP.name, MLP.positions, mlp))
    assert isinstance(evaluator, CostedEvaluator)
    costs = evaluator.costs(MLP.enumerate(), ["params_m", "flops_m", "val_accuracy"])
    assert list(costs) == ["params_m"]
    expected = [64 * 4 + 4 + 4 * 10 + 10, 64 * 4 + 4 * 10, 64 * 8 + 8 + 8 * 10 + 10]
    assert (costs["params_m"][:3] * 1e6).round().tolist() == expected
    assert np.isnan(costs["params_m"][3])
    assert evaluator.costs(MLP.enumerate(), ["flops_m"]) == {}
    built = mlp(MLP.decode("00"), in_channels=1, classes=10)
    assert sum(p.numel() for p in built.parameters()) == expected[0]
    with pytest.raises(EvaluatorError, match=r"returned a int; accepted: a torch\.nn\.Module"):
        TrainEvaluator(SearchSpace("x", MLP.positions, lambda c, **_: 3)).costs(
            MLP.enumerate(), ["params_m"]
        )


def test_a_space_computes_its_own_costs() -> None:
    def cost(config: dict[str, Any], **call: Any) -> dict[str, float]:
        assert call == {"in_channels": 1, "classes": 10, "image_size": 8, "depth": 2}
        return {"flops_m": float(config["width"])}

    space = SearchSpace(MLP.name, MLP.positions, mlp, {"depth": 2}, cost=cost)
    costs = TrainEvaluator(space).costs(MLP.enumerate(), ["params_m", "flops_m"])
    assert list(costs) == ["flops_m"] and costs["flops_m"].tolist() == [4.0, 4.0, 8.0, 8.0]


def test_the_meta_device_leaves_the_random_state_alone() -> None:
    before = torch.random.get_rng_state()
    TrainEvaluator(SearchSpace(MLP.name, MLP.positions, mlp)).costs(MLP.enumerate(), ["params_m"])
    assert torch.equal(before, torch.random.get_rng_state())
