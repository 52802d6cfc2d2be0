"""Whole searches with several objectives, and with constraints."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from numpy.typing import NDArray
from rich.console import Console

from lm_searcher.agent.loop.request_files import Request, submit
from lm_searcher.agent.optuna_view.storage import RunStorage
from lm_searcher.agent.results.live import LiveView
from lm_searcher.agent.results.report import render
from lm_searcher.agent.results.result import Result, read_run
from lm_searcher.agent.results.run_list import list_runs
from lm_searcher.agent.results.summary import print_summary
from lm_searcher.agent.search import Search
from lm_searcher.agent.study.stop import StopReason
from lm_searcher.spaces.errors import ConfigError, EvaluatorError, StoreError, TableError
from lm_searcher.spaces.history import TrialState
from lm_searcher.spaces.ncode import Codes
from lm_searcher.spaces.objectives import front
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.spaces.tables import Table
from lm_searcher.tools.evaluators.table import TableEvaluator
from lm_searcher.tools.protocols import CostedEvaluator, Evaluation, Report

SPACE = SearchSpace.of("tiny", {f"p{i}": list("abcde") for i in range(4)})  # 625
CODES = SPACE.enumerate()
SIZE = CODES.sum(axis=1).astype(np.float64)  # 0 to 16
NOISE = np.random.default_rng(5).normal(size=625)
ACC = np.sqrt(SIZE) + 0.3 * NOISE
METRICS = {"acc": ACC, "size": SIZE, "speed": 20 - SIZE + NOISE}
TWO = [{"metric": "acc", "direction": "max"}, {"metric": "size", "direction": "min"}]
THREE = [*TWO, {"metric": "speed", "direction": "max"}]


def ended_by(result: Result) -> StopReason | None:
    return result.stop and result.stop.reason


def table(*known: str) -> TableEvaluator:
    return TableEvaluator(Table(SPACE, CODES, METRICS, {"size": "min"}), "acc", known=known)


def row(ncode: str) -> int:
    return int(ncode, 5)


def search(evaluator: Any = None, **keywords: Any) -> Search:
    given = {"ranker": "evolution", "trials": 40, "store": "memory", "seed": 3} | keywords
    return Search(SPACE, evaluator or table(), **given)


def shown(result: Result) -> str:
    console = Console(width=160, record=True, file=io.StringIO())
    print_summary(console, result, "go on")
    return console.export_text()


# -- several objectives ---------------------------------------------------------------------------


@pytest.mark.slow
def test_the_result_is_the_front(tmp_path: Path) -> None:
    result = search(store=None, folder=tmp_path, name="two", trials=25, objectives=TWO).run()
    tried = [row(t.ncode) for t in result.trials]
    values = np.stack([ACC[tried], -SIZE[tried]], axis=1)
    expected = {tried[i] for i in np.flatnonzero(front(values, np.zeros(len(tried))))}
    assert {row(member.ncode) for member in result.front} == expected
    assert len(expected) > 3
    assert [m.values["acc"] for m in result.front] == sorted(
        (m.values["acc"] for m in result.front), reverse=True
    )
    assert result.incumbent is None and result.nearest is None
    assert [t.values for t in result.trials] == [(ACC[i], SIZE[i]) for i in tried]
    assert [t.value for t in result.trials] == [ACC[i] for i in tried]
    read = read_run(search(store=None, folder=tmp_path, name="two", objectives=TWO).files)
    assert read.front == result.front and list(read.trials) == list(result.trials)
    document = read.to_json()
    assert document["incumbent"] is None and len(document["front"]) == len(expected)
    assert document["objective"]["objectives"] == TWO
    assert document["front"][0]["config"] == SPACE.decode(document["front"][0]["ncode"])
    assert document["trials"][0]["values"] == [ACC[tried[0]], SIZE[tried[0]]]
    assert document["hypervolumes"] == sorted(document["hypervolumes"])
    (listed,) = list_runs(tmp_path, None)
    assert listed["front"] == len(expected) and listed["best"] is None


@pytest.mark.slow
def test_optuna_sees_the_same_front(tmp_path: Path) -> None:
    given = {"objectives": TWO, "constraints": ["speed >= 8.5"]}
    run = search(store=None, folder=tmp_path, name="two", trials=20, **given)
    result = run.run()
    study = optuna.load_study(study_name="two", storage=RunStorage("two", folder=tmp_path))
    assert [d.name for d in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert {t.number for t in study.best_trials} == {m.number for m in result.front}
    for theirs, ours in zip(study.trials, result.trials, strict=True):
        margin = 8.5 - METRICS["speed"][row(ours.ncode)]
        assert theirs.constraints == {"speed >= 8.5": pytest.approx(margin)}
        assert ours.violation == pytest.approx(max(0.0, margin) / 8.5)
    assert any(t.violation > 0 for t in result.trials)


def test_a_batch_and_ask_and_tell_see_the_same_aims() -> None:
    batched = search(objectives=TWO, batch=4, workers=1, trials=24).run()
    assert len({t.ncode for t in batched.trials}) == 24
    with search(objectives=TWO, constraints=["size <= 9"]) as asked:
        for _ in range(8):
            for evaluation in asked.ask(3):
                i = row(evaluation.ncode)
                asked.tell(evaluation, {"acc": ACC[i], "size": SIZE[i]})
        last = asked.ask()[0]
        told = asked.tell(last, 0.5)
        assert told.reason == "the evaluator gave no finite 'size'; its metrics: acc"
        result = asked.result()
    assert len(result.trials) == 25 and all(m.values["size"] <= 9 for m in result.front)


class Killed(BaseException):
    """As kill -9 would: nothing is put in order."""


@dataclass
class Mortal:
    """The table, which kills its caller at one call."""

    after: int = 10**9
    metric: str = "acc"
    direction: str = "max"
    deterministic: bool = False
    inline: bool = True
    seen: list[str] = field(default_factory=list)

    def identity(self) -> dict[str, Any]:
        return {"kind": "mortal"}

    def prepare(self) -> None: ...

    def evaluate(self, evaluation: Evaluation, report: Report) -> Any:
        self.seen.append(evaluation.ncode)
        if len(self.seen) > self.after:
            raise Killed
        i, noise = row(evaluation.ncode), evaluation.seed % 1000 / 1e4
        return {name: float(column[i]) + noise for name, column in METRICS.items()}


def outcome(result: Result) -> dict[str, Any]:
    """All that must be the same."""
    document = result.to_json()
    picked = {key: document[key] for key in ("trials", "front", "confirmations", "subspace")}
    for entry in [*picked["trials"], *chain(*picked["confirmations"].values())]:
        del entry["seconds"]
    return picked


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_as_it_would(tmp_path: Path) -> None:
    given = {
        "objectives": TWO,
        "constraints": ["speed >= 9"],
        "store": None,
        "folder": tmp_path,
        "trials": 24,
        "memory": {"start": 10, "width": 1.0, "elites": 2, "stagnation": 8},
        "confirm": {"top": 2, "seeds": 2},
    }
    whole = outcome(search(Mortal(), name="whole", **given).run())
    assert whole["subspace"]["decisions"] and len(whole["confirmations"]) == 2
    for after in (14, 25):  # in the search, and in the confirmation
        with pytest.raises(Killed):
            search(Mortal(after), name=f"killed-{after}", **given).run()
        assert outcome(search(Mortal(), name=f"killed-{after}", **given).run()) == whole


@pytest.mark.slow
def test_patience_counts_from_the_fronts_last_change() -> None:
    result = search(objectives=TWO, trials=600, patience=12).run()
    assert ended_by(result) is StopReason.PATIENCE
    volumes = result.hypervolumes()
    assert volumes[-13] == volumes[-1] and volumes[-13] > volumes[-14]


def test_a_run_keeps_its_objectives(tmp_path: Path) -> None:
    given = {"store": None, "folder": tmp_path, "name": "mine", "trials": 3}
    search(**given, objectives=TWO).run()
    with pytest.raises(
        StoreError, match=r"has another objective objectives: \[.* there, None here"
    ):
        search(**given).run()
    with pytest.raises(StoreError, match=r"another objective constraints: None there, \['size"):
        search(**given, objectives=TWO, constraints=["size <= 3"]).run()


@pytest.mark.slow
def test_an_objective_that_is_not_measured() -> None:
    with pytest.raises(TableError, match="unknown metric 'sise'; did you mean 'size'"):
        search(objectives=[TWO[0], {"metric": "sise", "direction": "min"}]).run()
    with pytest.raises(EvaluatorError, match=r"'size'.*acc"):
        search(lambda config: 1.0, objectives=TWO).run()
    endless = search(lambda config: {"acc": 1.0, "size": math.inf}, objectives=TWO, failures=2)
    numbers = endless.run()
    assert ended_by(numbers) is StopReason.FAILURES and "'size'" in str(numbers.stop)
    assert not numbers.front and "none: no trial has completed" in shown(numbers)


# -- constraints ----------------------------------------------------------------------------------


def test_what_is_known_to_break_a_constraint_is_never_evaluated() -> None:
    result = search(table("size"), constraints=["size <= 7", "size >= 2"], ranker="random").run()
    assert all(2 <= SIZE[row(t.ncode)] <= 7 for t in result.trials)
    assert len({t.ncode for t in result.trials}) == 40
    best = result.incumbent
    assert best is not None and best.value == max(ACC[row(t.ncode)] for t in result.trials)
    few = search(table("size"), constraints=["size <= 1"], trials=50).run()
    assert sorted(t.ncode for t in few.trials) == ["0000", "0001", "0010", "0100", "1000"]
    assert ended_by(few) is StopReason.EXHAUSTED


def test_nothing_satisfies_a_known_constraint(tmp_path: Path) -> None:
    run = search(table("size"), store=None, folder=tmp_path / "runs", constraints=["size >= 17"])
    with pytest.raises(ConfigError) as refusal:
        run.run()
    assert str(refusal.value) == (
        "no architecture of space 'tiny' satisfies size >= 17; the greatest size is 16"
    )
    assert not (tmp_path / "runs").exists()


def test_a_measured_constraint_marks_trials() -> None:
    result = search(constraints=["size <= 7"], trials=60).run()
    broken = [t for t in result.trials if t.violation > 0]
    assert broken and all(t.state is TrialState.COMPLETE for t in broken)
    assert all(t.violation == pytest.approx((SIZE[row(t.ncode)] - 7) / 7) for t in broken)
    good = [t for t in result.trials if t.violation == 0]
    best = result.incumbent
    assert best is not None and best.value == max(t.value or 0 for t in good)
    assert best.value < max(t.value or 0 for t in broken)
    assert [b for b in result.best_so_far() if b is not None][-1] == best.value
    assert "size <= 7" in shown(result) and "kept: " in shown(result)


def test_the_target_is_for_those_that_keep_the_constraints() -> None:
    result = search(constraints=["size <= 3"], target=-5.0, trials=60).run()
    assert ended_by(result) is StopReason.TARGET
    assert [t.violation > 0 for t in result.trials][-1] is False
    assert all(t.violation > 0 for t in result.trials[:-1])


def test_nothing_kept_a_measured_constraint() -> None:
    result = search(constraints=["size <= -1"], trials=12).run()
    assert result.incumbent is None
    nearest = min(result.trials, key=lambda t: SIZE[row(t.ncode)])
    size = SIZE[row(nearest.ncode)]
    assert (
        f"none: no trial satisfies size <= -1; trial {nearest.number} ({nearest.ncode}) comes "
        f"nearest, with size {size:g}" in " ".join(shown(result).split())
    )
    assert "comes nearest, with size" in render(result)


@dataclass
class Wide:
    """A space far too large to look through, of which the cost is known."""

    metric: str = "value"
    direction: str = "max"
    deterministic: bool = True
    inline: bool = True

    def identity(self) -> dict[str, Any]:
        return {"kind": "wide"}

    def prepare(self) -> None: ...

    def costs(self, codes: Codes, metrics: Collection[str]) -> Mapping[str, NDArray[np.float64]]:
        return {"sum": codes.sum(axis=1).astype(np.float64)} if "sum" in metrics else {}

    def evaluate(self, evaluation: Evaluation, report: Report) -> Any:
        digits = [int(d) for d in evaluation.ncode]
        return {"value": float(digits[0] + digits[1]), "sum": float(sum(digits))}


WIDE = SearchSpace.of("wide", {f"p{i:02d}": list(range(8)) for i in range(20)})


@pytest.mark.slow
@pytest.mark.parametrize("bound", [60, 12])  # a third of the space; one in 10^8
def test_known_constraints_of_a_huge_space(bound: int) -> None:
    given: dict[str, Any] = {"constraints": [f"sum <= {bound}"], "ranker": "evolution", "pool": 200}
    assert isinstance(Wide(), CostedEvaluator)
    result = Search(WIDE, Wide(), trials=25, store="memory", **given).run()
    assert len({t.ncode for t in result.trials}) == 25
    assert all(sum(map(int, t.ncode)) <= bound for t in result.trials)


def test_a_huge_space_without_a_permitted_architecture() -> None:
    with pytest.raises(ConfigError, match=r"none of [\d,]+ architectures drawn from space 'wide' "
                       r"satisfies sum <= -1; the least sum is \d+"):  # fmt: skip
        Search(
            WIDE, Wide(), ranker="random", pool=100, store="memory", constraints=["sum <= -1"]
        ).run()


def test_a_pick_by_hand_keeps_known_constraints(tmp_path: Path) -> None:
    run = search(
        table("size"), store=None, folder=tmp_path, name="r", constraints=["size <= 7"], trials=3
    )
    submit(run.files, Request(action="pick", ncode="4444"))
    submit(run.files, Request(action="pick", ncode="0101"))
    result = run.run()
    assert result.trials[0].ncode == "0101" and "4444" not in {t.ncode for t in result.trials}
    (refused,) = [v for k, v in result.attributes.items() if k.startswith("request:") and
                  "refused" in v]  # fmt: skip
    assert refused["refused"] == "'4444' has size = 16, which breaks the constraint size <= 7"


# -- what a person sees ---------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("objectives", [TWO, THREE], ids=["two", "three"])
def test_the_report_has_the_front(objectives: list[dict[str, str]]) -> None:
    result = search(objectives=objectives, constraints=["speed >= 9"]).run()
    page = render(result)
    assert "<h2>Pareto front</h2>" in page and "<h2>Hypervolume</h2>" in page
    assert "Best so far" not in page
    body = page[page.index("<body>") :]
    assert all(f"<td>{member.ncode}</td>" in body for member in result.front)
    assert ('"dimensions":[' in body) == (len(objectives) == 3)
    assert '"name":"breaks a constraint"' in body and '"name":"front"' in body
    drawn = re.search(r'"name":"hypervolume","x":(\[.*?\]|\{.*?\})', body)
    assert drawn is not None


def test_the_terminal_has_the_front() -> None:
    lines: list[str] = []
    run = search(objectives=TWO, constraints=["speed >= 9"], trials=30)
    view = LiveView(Console(file=io.StringIO()), "t", run.problem.objectives, 30)
    run.observe = lambda event: (view(event), lines.append(view.last))[0]
    result = run.run()
    assert len(view.front) == len(result.front)
    assert lines[-1].endswith(f", front of {len(result.front)}")
    assert any("(breaks a constraint)" in line for line in lines)
    assert "acc" in lines[-1] and "size" in lines[-1]
    view.render()
    text = shown(result)
    assert "Pareto front" in text and "speed >= 9" in text
    assert all(member.ncode in text for member in result.front[:20])


def test_before_anything_has_been_measured() -> None:
    for objectives in (TWO, THREE):
        with search(objectives=objectives) as asked:
            asked.ask()
            result = asked.result()
        assert result.front == [] and result.hypervolumes() == [0.0]
        assert "No trial has values yet." in render(result)
        assert "none: no trial has completed" in shown(result)
