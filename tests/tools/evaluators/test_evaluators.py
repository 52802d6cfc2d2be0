from __future__ import annotations

import contextlib
import gc
import json
import math
import os
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest

from lm_searcher.spaces.errors import EvaluatorError, TableError, TrialFailure
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.spaces.tables import Table
from lm_searcher.tools.evaluators.command import CommandEvaluator
from lm_searcher.tools.evaluators.function import FunctionEvaluator
from lm_searcher.tools.evaluators.table import TableEvaluator
from lm_searcher.tools.executors.evaluate_all import evaluate_all
from lm_searcher.tools.executors.inline import InlineExecutor
from lm_searcher.tools.protocols import Evaluation, Evaluator, Outcome

SPACE = SearchSpace.of("s", {"width": [16, 32, 64], "act": ["relu", "gelu"]})


def evaluation(ncode: str = "21", seed: int = 7) -> Evaluation:
    return Evaluation(3, ncode, SPACE.decode(ncode), seed)


@dataclass
class Reports:
    """Listens to a learning curve; says stop at a step."""

    stop_at: float = math.inf
    heard: list[tuple[int, float]] = field(default_factory=list)

    def __call__(self, step: int, value: float) -> bool:
        self.heard.append((step, value))
        return step >= self.stop_at


def outcome(evaluator: Evaluator, ncode: str = "21") -> Outcome:
    """What becomes of one evaluation behind the evaluation boundary."""
    with contextlib.closing(InlineExecutor(evaluator)) as executor:
        ((_, found),) = evaluate_all(executor, [evaluation(ncode)])
    return found


# -- commands and functions that do the same ------------------------------------------------------


def python(code: str) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(code)]


def constant(config: dict[str, Any]) -> dict[str, float]:
    return {"value": config["width"] / 64, "params": 5}


CONSTANT = python(
    """
    import json, sys
    given = json.loads(sys.stdin.readline())
    print(json.dumps({"value": given["config"]["width"] / 64, "params": 5}))
    """
)


def table(values: object = None) -> Table:
    codes = SPACE.enumerate()
    widths = np.array([16, 32, 64])[codes[:, 0]] / 64
    return Table(SPACE, codes, {"value": widths, "params": np.full(6, 5.0)}, {})


MAKE: dict[str, Callable[[], Evaluator]] = {
    "table": lambda: TableEvaluator(table(), "value"),
    "python": lambda: FunctionEvaluator(constant),
    "command": lambda: CommandEvaluator(CONSTANT),
}


@pytest.mark.parametrize("kind", MAKE)
class TestContract:
    """What every evaluator promises."""

    def test_it_measures(self, kind: str) -> None:
        evaluator = MAKE[kind]()
        evaluator.prepare()
        assert dict(evaluator.evaluate(evaluation("21"), Reports())) == {"value": 1.0, "params": 5}
        assert evaluator.evaluate(evaluation("01"), Reports())["value"] == 0.25

    def test_it_measures_behind_the_boundary(self, kind: str) -> None:
        found = outcome(MAKE[kind]())
        assert found.metrics == {"value": 1.0, "params": 5.0}
        assert found.reason is None and not found.stopped and found.seconds >= 0

    def test_a_missing_metric_is_left_to_the_controller(self, kind: str) -> None:
        evaluator = MAKE[kind]()
        evaluator.metric = "acc"
        if kind == "table":  # which knows before it starts
            with pytest.raises(TableError, match=r"unknown metric 'acc'"):
                evaluator.prepare()
        else:
            found = outcome(evaluator)
            assert found.reason is None and found.metrics == {"value": 1.0, "params": 5.0}

    def test_it_goes_to_a_worker_and_says_what_it_is(self, kind: str) -> None:
        evaluator = MAKE[kind]()
        copy = cloudpickle.loads(cloudpickle.dumps(evaluator))
        copy.prepare()
        assert copy.evaluate(evaluation(), Reports())["value"] == 1.0
        assert copy.identity() == evaluator.identity()
        assert evaluator.identity()["kind"] == kind
        assert json.loads(json.dumps(evaluator.identity())) == evaluator.identity()

    def test_its_settings_are_there(self, kind: str) -> None:
        evaluator = MAKE[kind]()
        assert evaluator.direction in ("max", "min")
        assert isinstance(evaluator.deterministic, bool) and isinstance(evaluator.inline, bool)
        assert evaluator.inline is (kind == "table")


# -- what goes wrong, in a function and in a command ----------------------------------------------


def returns(value: object) -> Callable[[dict[str, Any]], Any]:
    return lambda config: value


def raises(error: BaseException) -> Callable[[dict[str, Any]], Any]:
    def function(config: dict[str, Any]) -> Any:
        raise error

    return function


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (raises(ValueError("wrong\nshape")), "ValueError: wrong shape"),
        (raises(ZeroDivisionError()), "ZeroDivisionError"),
        (raises(MemoryError()), "out of memory"),
        (raises(RuntimeError("CUDA out of memory. Tried")), "out of memory: CUDA out of memory."),
        (raises(TrialFailure("too wide")), "too wide"),
        (returns(None), "the evaluator returned None (NoneType); accepted: a number, or a dict"),
        (returns("0.9"), "the evaluator returned '0.9' (str)"),
        (returns(True), "the evaluator returned True (bool)"),
        (returns([0.9]), "the evaluator returned [0.9] (list)"),
        (returns({}), "the evaluator returned {} (dict); accepted: a number, or a dict"),
        (returns(math.nan), "'value' is nan (float), not a finite number"),
        (returns(-math.inf), "'value' is -inf (float), not a finite number"),
        (returns({"value": "0.9"}), "'value' is '0.9' (str), not a finite number"),
        (returns({"value": None}), "'value' is None (NoneType), not a finite number"),
        (returns({"value": np.array([1, 2])}), "not a finite number"),
    ],
)
def test_what_a_function_does_wrong_is_the_reason(
    function: Callable[..., Any], reason: str
) -> None:
    found = outcome(FunctionEvaluator(function))
    assert found.reason is not None and reason in found.reason and "\n" not in found.reason
    assert found.metrics == {}


@pytest.mark.parametrize(
    ("value", "metrics"),
    [
        (0.5, {"value": 0.5}),
        (1, {"value": 1.0}),
        (np.float32(0.5), {"value": 0.5}),
        (np.int64(3), {"value": 3.0}),
        (np.float64(0.5), {"value": 0.5}),
        ({"value": np.float32(0.5), "n": np.int64(2)}, {"value": 0.5, "n": 2.0}),
        ({"value": np.array(0.5)}, {"value": 0.5}),
        ({"acc": 1}, {"acc": 1.0}),
        # Another metric that is no number does not fail the trial.
        (
            {"value": 1, "nan": math.nan, "text": "x", "none": None},
            {"value": 1.0, "nan": math.nan, "text": math.nan, "none": math.nan},
        ),
    ],
)
def test_what_counts_as_a_number(value: object, metrics: dict[str, float]) -> None:
    found = outcome(FunctionEvaluator(returns(value)))
    assert found.reason is None and found.metrics == pytest.approx(metrics, nan_ok=True)
    assert all(type(v) is float for v in found.metrics.values())


# -- what a function is given ---------------------------------------------------------------------


def calls() -> dict[str, tuple[Callable[..., Any], dict[str, Any]]]:
    """Functions that return what they were given, with what that is to be."""
    config = SPACE.decode("21")
    both = {"config": config, "budget": 2.0}

    def one(config):
        return locals()

    def other_name(c, /):
        return {"config": c}

    def two(config, budget):
        return locals()

    def second_of_any_name(config, epochs):
        return {"config": config, "budget": epochs}

    def positional_only(c, b, /):
        return {"config": c, "budget": b}

    def default_budget(config, budget=1.0):
        return locals()

    def keyword_budget(config, *, budget):
        return locals()

    def default_of_its_own(config, folder="data"):
        return locals()

    def everything(config, budget, *, seed, ncode, report):
        return dict(locals(), report=0)

    def seed_second(config, seed):
        return locals()

    def seed_between(config, seed, budget):
        return locals()

    def seed_first(seed, config):
        return locals()

    def any_keywords(config, **rest):
        return {"config": config, **rest}

    def any_arguments(*given):
        return {"config": given[0], "rest": given[1:]}

    seeded = {"config": config, "seed": 7}
    return {
        f.__name__: (f, wanted)
        for f, wanted in (
            (one, {"config": config}),
            (other_name, {"config": config}),
            (two, both),
            (second_of_any_name, both),
            (positional_only, both),
            (default_budget, both),
            (keyword_budget, both),
            (default_of_its_own, {"config": config, "folder": "data"}),
            (everything, both | {"seed": 7, "ncode": "21", "report": 0}),
            (seed_second, seeded),
            (seed_between, both | {"seed": 7}),
            (seed_first, seeded),
            (any_keywords, {"config": config}),
            (any_arguments, {"config": config, "rest": ()}),
        )
    }  # fmt: skip


@pytest.mark.parametrize("name", calls())
def test_a_function_is_given_what_it_asks_for(name: str) -> None:
    function, wanted = calls()[name]
    given = FunctionEvaluator(function, budget=2.0).evaluate(evaluation(), Reports())
    assert given == wanted


def test_a_builtin_without_a_signature_and_a_callable_object() -> None:
    class Evaluate:
        def __call__(self, config: dict[str, Any], budget: float) -> float:
            return config["width"] * budget

    assert FunctionEvaluator(len).evaluate(evaluation(), Reports()) == 2
    assert FunctionEvaluator(max).evaluate(evaluation(), Reports()) == "width"
    evaluator = FunctionEvaluator(Evaluate(), budget=0.5)
    assert evaluator.evaluate(evaluation(), Reports()) == 32
    assert evaluator.identity()["function"] == "Evaluate"


def test_a_function_reports_and_is_told_to_stop() -> None:
    def train(config: dict[str, Any], report: Callable[[int, float], bool]) -> float:
        for epoch in range(1, 10):
            if report(epoch, epoch / 10):
                return epoch / 10
        return 1.0

    reports = Reports(stop_at=3)
    assert FunctionEvaluator(train).evaluate(evaluation(), reports) == 0.3
    assert reports.heard == [(1, 0.1), (2, 0.2), (3, 0.3)]
    with contextlib.closing(InlineExecutor(FunctionEvaluator(train))) as executor:
        ((_, found),) = evaluate_all(executor, [evaluation()], lambda e, step, value: step == 2)
    assert found.stopped and found.metrics == {"value": 0.2}


def test_a_function_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_evaluator.py").write_text("def f(config): return config['width']\nx = 3\n")
    (tmp_path / "broken_evaluator.py").write_text("import nowhere_to_be_found\n")
    (tmp_path / "raising_evaluator.py").write_text("raise ValueError('two\\nlines')\n")
    (tmp_path / "leaving_evaluator.py").write_text("import sys\nsys.exit('bye')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    evaluator = FunctionEvaluator("own_evaluator:f")
    identity = {"kind": "python", "function": "own_evaluator:f", "budget": 1.0}
    assert evaluator.identity() == identity
    evaluator.prepare()
    assert evaluator.identity() == identity, "the run goes on in a process that has not imported it"
    assert evaluator.evaluate(evaluation(), Reports()) == 64
    for reference, message in (
        ("own_evaluator", 'accepted is "module:function"'),
        (":f", 'accepted is "module:function"'),
        ("own_evaluator:g", "no attribute 'g'"),
        ("own_evaluator:x", "'x' is a int, not a function"),
        ("no_such_evaluator:f", "cannot import 'no_such_evaluator': No module named"),
        ("broken_evaluator:f", "No module named 'nowhere_to_be_found'"),
        ("raising_evaluator:f", "ValueError: two lines"),
        ("leaving_evaluator:f", "SystemExit: bye"),
    ):
        with pytest.raises(EvaluatorError) as refusal:
            FunctionEvaluator(reference).prepare()
        assert f"evaluator '{reference}'" in str(refusal.value)
        assert message in str(refusal.value) and "\n" not in str(refusal.value)
    with pytest.raises(EvaluatorError, match="3 is no function"):
        FunctionEvaluator(3).prepare()  # type: ignore[arg-type]


# -- tables ---------------------------------------------------------------------------------------


def test_a_table_averages_the_rows_of_one_architecture() -> None:
    codes = SPACE.codes(["00", "21", "21"])
    seeds = Table(SPACE, codes, {"acc": np.array([1.0, 2.0, 4.0])}, {"acc": "min"})
    evaluator = TableEvaluator(seeds, "acc")
    assert evaluator.evaluate(evaluation("21"), Reports()) == {"acc": 3.0}
    assert evaluator.evaluate(evaluation("00"), Reports()) == {"acc": 1.0}
    assert evaluator.direction == "min" and TableEvaluator(table(), "value").direction == "max"
    assert "no row for this architecture" in str(outcome(evaluator, "10").reason)


def test_a_tables_gap_is_a_failed_trial() -> None:
    gap = Table(SPACE, SPACE.codes(["21"]), {"acc": np.array([np.nan])}, {})
    assert outcome(TableEvaluator(gap, "acc")).reason == "'acc' is nan (float), not a finite number"


def test_the_identity_of_a_table_is_its_content() -> None:
    one, same = TableEvaluator(table(), "value"), TableEvaluator(table(), "value")
    other = TableEvaluator(table(), "params")
    assert one.identity() == same.identity() != other.identity()


# -- commands -------------------------------------------------------------------------------------


def test_a_command_is_given_one_json_object() -> None:
    echo = python(
        """
        import json, sys
        given = json.load(sys.stdin)
        print(json.dumps({"value": 1, "given": given}))
        """
    )
    metrics = CommandEvaluator(echo, budget=0.5).evaluate(evaluation(), Reports())
    assert metrics["given"] == {  # type: ignore[comparison-overlap]
        "ncode": "21",
        "config": {"width": 64, "act": "gelu"},
        "seed": 7,
        "budget": 0.5,
    }


def test_a_command_reports_and_writes_what_else_it_likes(capfd: pytest.CaptureFixture[str]) -> None:
    command = """
    echo loading
    echo '{broken'
    echo '[1]'
    echo '{"step": 1, "value": 0.5}'
    echo '  {"step": 2, "value": 0.75}'
    echo '{"value": 0.5, "x": 1}'
    echo '{"value": 0.8}'
    """
    reports = Reports()
    assert CommandEvaluator(command).evaluate(evaluation(), reports) == {"value": 0.8}
    assert reports.heard == [(1, 0.5), (2, 0.75)]
    assert capfd.readouterr().err.split() == ["loading", "{broken", "[1]"]


def test_a_command_that_is_told_to_stop_is_not_waited_for(tmp_path: Path) -> None:
    """Though a process that its shell has started keeps the pipe open."""
    fifo, witness = tmp_path / "fifo", tmp_path / "went-on"
    os.mkfifo(fifo)
    command = f"""
    (read line < {fifo}; echo more) &
    echo '{{"step": 1, "value": 0.5}}'
    echo '{{"step": 2, "value": 0.6}}'
    wait; touch {witness}
    """
    reports = Reports(stop_at=2)
    assert CommandEvaluator(command).evaluate(evaluation(), reports) == {"value": 0.6}
    assert reports.heard == [(1, 0.5), (2, 0.6)]
    fifo.write_text("go\n")  # lets the left-over go, which in a worker dies with its group
    assert not witness.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("exit 3", "command exited with code 3"),
        ("echo '{\"value\": 1}'; exit 3", "command exited with code 3"),
        ("no-such-program-anywhere", "command exited with code 127 (not found)"),
        ("/dev/null", "command exited with code 126 (not executable)"),
        ("kill -9 $$", "command was killed by SIGKILL"),
        ("sh -c 'kill -9 $$'; exit $?", "command was killed by SIGKILL"),
        ("true", 'command wrote no metrics; it must write a JSON line such as {"value": 0.9}'),
        ("cat > /dev/null; echo 0.9", "command wrote no metrics"),
        ('echo \'{"step": 1, "value": 0.5}\'', "command wrote no metrics"),
        ("echo '{\"value\": NaN}'", "'value' is nan (float), not a finite number"),
        ('echo \'{"value": "0.9"}\'', "'value' is '0.9' (str)"),
        ('echo \'{"step": "a", "value": 1}\'; cat', "step and value must be numbers"),
        (["no-such-program-anywhere"], "command does not start: "),
        (["false"], "command exited with code 1"),
    ],
)
def test_what_a_command_does_wrong_is_the_reason(command: str | list[str], reason: str) -> None:
    found = outcome(CommandEvaluator(command))
    assert found.reason is not None and reason in found.reason and "\n" not in found.reason
    gc.collect()  # no pipe is left open: a warning would be an error


@pytest.mark.slow
def test_a_command_may_ignore_its_input() -> None:
    assert outcome(CommandEvaluator("echo '{\"value\": 1}'")).metrics == {"value": 1.0}
    deaf = CommandEvaluator("exec 0<&-; echo '{\"value\": 1}'")
    wide = Evaluation(0, "0", {"text": "x" * 1_000_000}, 0)  # more than a pipe holds
    assert deaf.evaluate(wide, Reports()) == {"value": 1}
    gc.collect()


def test_a_command_that_is_interrupted_is_not_left_behind() -> None:
    def interrupt(step: int, value: float) -> bool:
        raise KeyboardInterrupt

    command = 'echo \'{"step": 1, "value": 1}\'; exec sleep 600'
    with pytest.raises(KeyboardInterrupt):
        CommandEvaluator(command).evaluate(evaluation(), interrupt)


@pytest.mark.parametrize("command", ["", []])
def test_an_empty_command_is_refused(command: str | list[str]) -> None:
    with pytest.raises(EvaluatorError, match="command is empty"):
        CommandEvaluator(command).prepare()
