"""What every executor must do: a class of tests for each of them to inherit from.

Evaluations tell what they do by files, since they may run in other processes. Their functions are
nested, so that they are sent by value.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lm_searcher.spaces.errors import TrialFailure
from lm_searcher.tools.evaluators.function import FunctionEvaluator
from lm_searcher.tools.executors.evaluate_all import evaluate_all
from lm_searcher.tools.executors.protocol import Began, Ended, Event, Executor, Reported
from lm_searcher.tools.protocols import Cancelled, Evaluation, Outcome

Function = Callable[..., Any]
Start = Callable[..., Executor]
"""Makes an executor of a function: `start(function, workers=1)`. It is closed after the test."""


def evaluation(key: int = 0, seed: int = 0, **config: Any) -> Evaluation:
    return Evaluation(key, str(key), config, seed)


def await_file(path: Path) -> None:
    """Wait until an evaluation has written into the file."""
    deadline = time.monotonic() + 60
    while not (path.exists() and path.stat().st_size):
        assert time.monotonic() < deadline, f"{path.name} is not there"
        time.sleep(0.002)


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().split()[2] != "Z"
    except OSError:
        return False


def await_end(pid: int) -> None:
    deadline = time.monotonic() + 60
    while alive(pid):
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.002)


def events_until(executor: Executor, last: Callable[[Event], bool]) -> list[Event]:
    """All events up to the first poll that has such an event."""
    seen: list[Event] = []
    deadline = time.monotonic() + 120
    while not any(map(last, seen)):
        assert time.monotonic() < deadline, f"only {seen}"
        seen += executor.poll(10.0)
    return seen


def is_ended(event: Event) -> bool:
    return isinstance(event, Ended)


def is_report(event: Event) -> bool:
    return isinstance(event, Reported)


def outcome_of(executor: Executor, one: Evaluation) -> Outcome:
    ((_, outcome),) = evaluate_all(executor, [one])
    return outcome


class ExecutorContract:
    """A module of tests has a fixture `start`, and a subclass that says what differs."""

    at_once = True
    """Several evaluations run at the same time."""
    at_that_report = True
    """`stop` ends an evaluation at the very report that was polled."""
    interrupts = True
    """`poll` returns at its timeout, and `close` ends an evaluation that is computing."""
    outlives = False
    """Evaluations go on without the controller; `start(function, again=True)` takes them over."""

    # -- outcomes ------------------------------------------------------------------------------

    def test_evaluations_give_what_the_function_gives(self, start: Start) -> None:
        def measure(config: dict[str, Any]) -> dict[str, float]:
            return {"value": config["x"] / 4, "size": config["x"]}

        executor = start(measure)
        wanted = [evaluation(key, x=key) for key in (3, 0, -1, 7)]
        found = list(evaluate_all(executor, wanted))
        assert [one for one, _ in found] == wanted  # one place: in their order
        for one, outcome in found:
            assert outcome.metrics == {"value": one.key / 4, "size": one.key}
            assert (outcome.reason, outcome.stopped) == (None, False)
            assert 0 <= outcome.seconds < 60

    @pytest.mark.parametrize(
        ("how", "reason"),
        [
            ("raise", "ValueError: two lines"),
            ("refuse", "does not fit"),
            ("nan", "'value' is nan (float), not a finite number"),
            ("text", "the evaluator returned '0.9' (str)"),
            ("nothing", "the evaluator returned None (NoneType)"),
        ],
    )
    def test_a_failure_is_an_outcome_and_the_next_goes_on(
        self, start: Start, how: str, reason: str
    ) -> None:
        def misbehave(config: dict[str, Any]) -> Any:
            if config["how"] == "raise":
                raise ValueError("two\nlines")
            if config["how"] == "refuse":
                raise TrialFailure("does not fit")
            return {"good": 1.5, "nan": float("nan"), "text": "0.9"}.get(config["how"])

        executor = start(misbehave)
        failed = outcome_of(executor, evaluation(0, how=how))
        assert (failed.reason or "").startswith(reason) and failed.metrics == {}
        after = outcome_of(executor, evaluation(1, how="good"))
        assert (after.reason, after.metrics) == (None, {"value": 1.5})

    def test_an_attempt_is_told_with_its_outcome(self, start: Start) -> None:
        executor = start(lambda config: 1.0)
        executor.submit(evaluation(5), attempt=3)
        ended = events_until(executor, is_ended)[-1]
        assert isinstance(ended, Ended) and (ended.key, ended.attempt) == (5, 3)

    # -- places --------------------------------------------------------------------------------

    def test_room_is_what_may_be_submitted(self, start: Start) -> None:
        executor = start(lambda config: 1.0, workers=2)
        assert executor.room() == 2
        executor.submit(evaluation(0))
        assert executor.room() == 1
        executor.submit(evaluation(1))
        assert executor.room() == 0
        seen: list[Event] = []
        while sum(map(is_ended, seen)) < 2:
            seen += executor.poll(10.0)
            assert executor.room() == sum(map(is_ended, seen))
        assert executor.room() == 2

    def test_several_run_at_once(self, start: Start, tmp_path: Path) -> None:
        if not self.at_once:
            pytest.skip("one after the other")

        def meet(config: dict[str, Any]) -> float:
            (tmp_path / config["me"]).touch()
            while not (tmp_path / config["other"]).exists():  # for ever, unless both run
                time.sleep(0.01)
            return 1.0

        executor = start(meet, workers=2)
        executor.submit(evaluation(0, me="a", other="b"))
        executor.submit(evaluation(1, me="b", other="a"))
        seen: list[Event] = []
        while sum(map(is_ended, seen)) < 2:
            seen += executor.poll(10.0)
        ended = [event.outcome for event in seen if isinstance(event, Ended)]
        assert [outcome and outcome.reason for outcome in ended] == [None, None]
        places = [event.place for event in seen if isinstance(event, Began)]
        assert len(set(places)) == len(places)

    # -- reports -------------------------------------------------------------------------------

    @staticmethod
    def train(config: dict[str, Any], report: Callable[[int, float], bool]) -> float:
        for epoch in range(1, config["epochs"] + 1):
            if report(epoch, epoch / 10):
                return epoch / 10
        return 1.0

    def test_reports_come_in_order_before_the_end(self, start: Start) -> None:
        train = self.train
        executor = start(lambda config, report: train(config, report))
        executor.submit(evaluation(4, epochs=5))
        seen = [e for e in events_until(executor, is_ended) if not isinstance(e, Began)]
        assert seen[:-1] == [Reported(4, epoch, epoch / 10) for epoch in range(1, 6)]
        ended = seen[-1]
        assert isinstance(ended, Ended) and ended.outcome is not None
        assert (ended.outcome.metrics, ended.outcome.stopped) == ({"value": 1.0}, False)

    def test_a_stop_ends_an_evaluation_at_a_report(self, start: Start) -> None:
        train = self.train
        executor = start(lambda config, report: train(config, report))
        executor.submit(evaluation(2, epochs=10**6))
        seen = events_until(executor, lambda e: isinstance(e, Reported) and e.step == 2)
        executor.stop(2)
        seen += events_until(executor, is_ended)
        ended = seen[-1]
        assert isinstance(ended, Ended) and ended.outcome is not None
        assert ended.outcome.stopped and ended.outcome.reason is None
        assert ended.outcome.metrics["value"] >= 0.2
        if self.at_that_report:
            assert ended.outcome.metrics["value"] == 0.2
            assert [e.step for e in seen if isinstance(e, Reported)] == [1, 2]

    def test_a_stop_before_the_first_report_ends_it_there(
        self, start: Start, tmp_path: Path
    ) -> None:
        train = self.train

        def wait(config: dict[str, Any], report: Callable[[int, float], bool]) -> float:
            while not (tmp_path / "go").exists():
                time.sleep(0.01)
            return train(config, report)

        executor = start(wait)
        executor.submit(evaluation(2, epochs=10**6))
        executor.stop(2)
        (tmp_path / "go").touch()
        ended = events_until(executor, is_ended)[-1]
        assert isinstance(ended, Ended) and ended.outcome is not None and ended.outcome.stopped

    def test_a_stop_of_what_does_not_run_is_ignored(self, start: Start) -> None:
        train = self.train
        executor = start(lambda config, report: train(config, report))
        executor.stop(1)
        whole = outcome_of(executor, evaluation(1, epochs=2))
        executor.stop(1)
        again = outcome_of(executor, evaluation(1, epochs=2))
        for outcome in (whole, again):
            assert (outcome.metrics, outcome.stopped) == ({"value": 1.0}, False)

    # -- waiting and the end -------------------------------------------------------------------

    def test_without_evaluations_a_poll_returns_at_once(self, start: Start) -> None:
        executor = start(lambda config: 1.0)
        assert executor.poll(3600.0) == []
        outcome_of(executor, evaluation())
        assert executor.poll(3600.0) == []

    def test_a_poll_without_events_returns_after_its_timeout(
        self, start: Start, tmp_path: Path
    ) -> None:
        if not self.interrupts:
            pytest.skip("a poll lasts until an event")
        executor = start(self.waiting_for(tmp_path / "go"))
        executor.submit(evaluation())
        while not list(tmp_path.glob("began-*")):
            executor.poll(0.01)
        while executor.poll(0.1):
            pass  # where it runs
        assert executor.poll(0.01) == executor.poll(0.0) == []
        (tmp_path / "go").touch()
        assert is_ended(events_until(executor, is_ended)[-1])

    def test_cancelling_ends_what_runs(self, start: Start, tmp_path: Path) -> None:
        executor = start(self.hanging(tmp_path))
        executor.submit(evaluation())
        events_until(executor, is_report)
        executor.cancel(after=3600.0)
        executor.cancel()
        executor.cancel(after=3600.0)
        with pytest.raises(Cancelled):
            executor.poll(3600.0)
        executor.close()
        self.await_end(tmp_path)

    def test_closing_ends_what_runs(self, start: Start, tmp_path: Path) -> None:
        executor = start(self.hanging(tmp_path))
        executor.submit(evaluation())
        events_until(executor, is_report)
        executor.close()
        self.await_end(tmp_path)
        executor.close()

    @staticmethod
    def waiting_for(path: Path) -> Function:
        def wait(config: dict[str, Any]) -> float:
            (path.parent / f"began-{os.getpid()}").touch()
            while not path.exists():
                time.sleep(0.01)
            return 1.0

        return wait

    @staticmethod
    def hanging(folder: Path) -> Function:
        """Writes its process, reports, and then does not end by itself."""

        def hang(config: dict[str, Any], report: Callable[[int, float], bool]) -> float:
            (folder / "pid").write_text(str(os.getpid()))
            report(1, 0.0)
            time.sleep(3600)
            return 1.0

        return hang

    @staticmethod
    def await_end(folder: Path) -> None:
        """Wait for the end of the process that `hanging` wrote, unless it is this one."""
        if (pid := int((folder / "pid").read_text())) != os.getpid():
            await_end(pid)

    # -- a second controller -------------------------------------------------------------------

    def test_what_still_runs_is_found_again(self, start: Start, tmp_path: Path) -> None:
        if not self.outlives:
            pytest.skip("ends with its controller")
        function = self.waiting_for(tmp_path / "go")
        first = start(function)
        first.submit(evaluation(3), attempt=2)
        while not list(tmp_path.glob("began-*")):
            first.poll(0.1)
        first.close(keep=True)
        second = start(function, again=True)
        second.submit(evaluation(3), attempt=2)
        (tmp_path / "go").touch()
        ended = events_until(second, is_ended)[-1]
        assert isinstance(ended, Ended) and (ended.key, ended.attempt) == (3, 2)
        assert ended.outcome is not None and ended.outcome.metrics == {"value": 1.0}
        assert len(list(tmp_path.glob("began-*"))) == 1, "begun anew"

    def test_what_ended_meanwhile_is_found_again(self, start: Start, tmp_path: Path) -> None:
        if not self.outlives:
            pytest.skip("ends with its controller")
        function = self.waiting_for(tmp_path / "go")
        first = start(function)
        first.submit(evaluation(3))
        while not list(tmp_path.glob("began-*")):
            first.poll(0.1)
        (began,) = tmp_path.glob("began-*")
        first.close(keep=True)
        (tmp_path / "go").touch()
        await_end(int(began.name.partition("-")[2]))
        second = start(function, again=True)
        second.submit(evaluation(3))
        ended = events_until(second, is_ended)[-1]
        assert isinstance(ended, Ended) and ended.outcome is not None
        assert ended.outcome.metrics == {"value": 1.0}
        assert len(list(tmp_path.glob("began-*"))) == 1, "begun anew"


def started(make: Callable[..., Executor]) -> Iterator[Start]:
    """The body of a fixture `start`, of what makes an executor from an evaluator."""
    made: list[Executor] = []

    def start(function: Function, **options: Any) -> Executor:
        made.append(make(FunctionEvaluator(function), **options))
        return made[-1]

    yield start
    for executor in made:
        executor.close()
