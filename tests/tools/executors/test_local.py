"""Evaluations in processes of their own: what goes wrong in one stays in it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing import Pipe
from pathlib import Path
from selectors import DefaultSelector
from typing import Any

import pytest
from executor_contract import (
    ExecutorContract,
    Start,
    alive,
    await_end,
    await_file,
    evaluation,
    events_until,
    is_ended,
    started,
)

from lm_searcher.spaces.errors import EvaluatorError, TrialFailure
from lm_searcher.spaces.history import TrialState
from lm_searcher.tools.devices import SHARE
from lm_searcher.tools.evaluators.function import FunctionEvaluator
from lm_searcher.tools.executors.evaluate_all import evaluate_all
from lm_searcher.tools.executors.evaluation_process import EvaluationProcess
from lm_searcher.tools.executors.local import LocalExecutor
from lm_searcher.tools.executors.protocol import Began, Ended, Event, Reported
from lm_searcher.tools.protocols import Cancelled, Evaluation, Outcome


def evaluations(*configs: dict[str, Any]) -> list[Evaluation]:
    return [Evaluation(i, str(i), config, seed=i) for i, config in enumerate(configs)]


@pytest.fixture
def start() -> Iterator[Start]:
    yield from started(LocalExecutor)


@pytest.mark.slow
class TestLocalExecutor(ExecutorContract):
    """Nothing differs."""


@contextlib.contextmanager
def executor(function: Callable[..., Any] | str, **options: Any) -> Iterator[LocalExecutor]:
    with contextlib.closing(LocalExecutor(FunctionEvaluator(function), **options)) as made:
        yield made


def outcomes(
    function: Callable[..., Any],
    *configs: dict[str, Any],
    report: Callable[[Evaluation, int, float], bool] = lambda *_: False,
    **options: Any,
) -> list[Outcome]:
    """What became of each, by number; of a lost place, a failure."""
    with executor(function, **options) as running:
        found = {e.key: o for e, o in evaluate_all(running, evaluations(*configs), report)}
    return [found[key] for key in sorted(found)]


def misbehave(config: dict[str, Any]) -> Any:
    """Goes wrong in the way that it is told to."""
    how = config["how"]
    if how == "raise":
        raise ValueError("two\nlines")
    if how == "hang":
        while True:
            time.sleep(1)
    if how == "hang and ignore":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            time.sleep(1)
    if how == "exit":
        sys.exit(3)
    if how == "exit at once":
        os._exit(4)
    if how == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "killed inside":
        raise TrialFailure("command was killed by SIGKILL")
    if how == "memory":
        return len(bytearray(10**12))
    return {"good": 1.5, "nan": float("nan"), "string": "0.9", "nothing": None}[how]


REASONS = {
    "raise": "ValueError: two lines",
    "hang": "timed out after 2 s",
    "hang and ignore": "timed out after 2 s",
    "exit": "exited with code 3 before it returned a result",
    "exit at once": "exited with code 4 before it returned a result",
    "segfault": "killed by SIGSEGV",
    "killed": "killed by SIGKILL (out of memory?)",
    "memory": "out of memory",
    "nan": "'value' is nan (float), not a finite number",
    "string": "the evaluator returned '0.9' (str); "
    "accepted: a number, or a dict of metric -> number",
    "nothing": "the evaluator returned None (NoneType); "
    "accepted: a number, or a dict of metric -> number",
}


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 3])
def test_whatever_goes_wrong_is_the_reason_and_the_next_goes_on(workers: int) -> None:
    hows = [how for bad in REASONS for how in (bad, "good")]
    found = outcomes(
        misbehave, *({"how": how} for how in hows), workers=workers, seconds=2, memory=2**31
    )
    assert [o.reason for o in found[::2]] == list(REASONS.values())
    assert all(not o.metrics for o in found[::2])
    assert [(o.reason, o.metrics) for o in found[1::2]] == [(None, {"value": 1.5})] * len(REASONS)


@pytest.mark.slow
def test_several_run_at_once_and_each_in_a_process_of_its_own(tmp_path: Path) -> None:
    def meet(config: dict[str, Any]) -> dict[str, float]:
        (tmp_path / config["me"]).touch()
        while not (tmp_path / config["other"]).exists():  # for ever, unless both run
            time.sleep(0.01)
        return {"value": 1.0, "pid": os.getpid()}

    pairs = [("a", "b"), ("b", "a"), ("c", "d"), ("d", "c")]
    found = outcomes(
        meet, *({"me": me, "other": other} for me, other in pairs), workers=2, seconds=120
    )
    assert [o.reason for o in found] == [None] * 4
    assert len({o.metrics["pid"] for o in found} | {os.getpid()}) == 5


def test_reports_arrive_in_order_and_are_answered() -> None:
    def train(config: dict[str, Any], report: Callable[[int, float], bool]) -> float:
        for epoch in range(1, 6):
            if report(epoch, epoch / 10):
                return epoch / 10
        return 1.0

    seen: list[tuple[int, int, float]] = []

    def stop_the_second_at_two(evaluation: Evaluation, step: int, value: float) -> bool:
        seen.append((evaluation.key, step, value))
        return evaluation.key == 1 and step == 2

    whole, stopped = outcomes(train, {}, {}, report=stop_the_second_at_two)
    assert (whole.metrics, whole.stopped) == ({"value": 1.0}, False)
    assert (stopped.metrics, stopped.stopped) == ({"value": 0.2}, True)
    assert seen == [(0, e, e / 10) for e in range(1, 6)] + [(1, 1, 0.1), (1, 2, 0.2)]


@pytest.mark.slow
def test_each_worker_has_its_device_and_its_share_of_threads() -> None:
    def look(config: dict[str, Any]) -> dict[str, float]:
        time.sleep(0.2)  # so that both workers get one
        threads = float(os.environ["OMP_NUM_THREADS"])
        return {"value": float(os.environ["CUDA_VISIBLE_DEVICES"]), "threads": threads}

    found = outcomes(look, {}, {}, workers=2, devices=["4", "7"])
    assert {o.metrics["value"] for o in found} == {4.0, 7.0}
    assert {o.metrics["threads"] for o in found} == {max(1, (os.cpu_count() or 1) // 2)}


@pytest.mark.slow
def test_workers_on_one_device_share_its_memory() -> None:
    def look(config: dict[str, Any]) -> float:
        time.sleep(0.2)  # so that all workers get one
        return float(os.environ.get(SHARE, 1))

    found = outcomes(look, {}, {}, {}, {}, workers=3, devices=["4", "7"])
    assert {o.metrics["value"] for o in found} == {0.45, 1.0}  # two on the first


@pytest.mark.slow
def test_what_an_evaluation_started_ends_with_it(tmp_path: Path) -> None:
    def start(config: dict[str, Any]) -> int:
        child = subprocess.Popen(["sleep", "600"])
        (tmp_path / config["name"]).write_text(str(child.pid))
        while config["hang"]:
            time.sleep(1)
        return child.pid

    configs = [{"name": "left", "hang": False}, {"name": "hung", "hang": True}]
    outcomes(start, *configs, seconds=3)
    for name in ("left", "hung"):
        await_end(int((tmp_path / name).read_text()))


def test_nothing_outlives_a_controller_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "controller.py"
    script.write_text(
        "import os, subprocess, time\n"
        "from lm_searcher.tools.evaluators.function import FunctionEvaluator\n"
        "from lm_searcher.tools.executors.local import LocalExecutor\n"
        "from lm_searcher.tools.protocols import Evaluation\n"
        "def hang(config):\n"
        "    child = subprocess.Popen(['sleep', '600'])\n"
        "    print(os.getppid(), os.getpid(), child.pid, flush=True)\n"
        "    time.sleep(600)\n"
        "executor = LocalExecutor(FunctionEvaluator(hang))\n"
        "executor.submit(Evaluation(0, '0', {}, 0))\n"
        "executor.poll(600)\n"
    )
    command = [sys.executable, str(script)]
    with subprocess.Popen(command, stdout=None, stderr=subprocess.PIPE, text=True) as controller:
        assert controller.stderr is not None  # where evaluations print without a log
        pids = [int(pid) for pid in controller.stderr.readline().split()]
        assert len(pids) == 3 and all(map(alive, pids))
        controller.kill()
    for pid in pids:
        await_end(pid)


@pytest.mark.slow
def test_a_killed_worker_is_a_lost_place_and_is_replaced() -> None:
    def kill_the_worker(config: dict[str, Any]) -> float:
        if config["kill"]:
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(600)
        return 1.0

    with executor(kill_the_worker) as running:
        running.submit(evaluation(0, kill=True), attempt=2)
        lost = events_until(running, is_ended)[-1]
        assert lost == Ended(0, None, "the worker process was killed", attempt=2)
        assert running.room() == 0, "the next one is loading"
        while not running.room():
            assert running.poll(60.0) == []
        running.submit(evaluation(0, kill=False), attempt=3)
        ended = events_until(running, is_ended)[-1]
        assert isinstance(ended, Ended) and ended.outcome is not None
        assert ended.outcome.metrics == {"value": 1.0}


@pytest.mark.slow
@pytest.mark.parametrize("noticed", [False, True])
def test_a_worker_killed_while_idle_is_replaced(noticed: bool) -> None:
    with executor(lambda config: os.getppid()) as running:
        ((_, outcome),) = evaluate_all(running, [evaluation()])
        os.kill(pid := int(outcome.metrics["value"]), signal.SIGKILL)
        await_end(pid)
        if noticed:
            assert running.poll(60.0) == []
            assert running.room() == 1
        running.submit(evaluation(1))
        ended = events_until(running, is_ended)[-1]
        assert isinstance(ended, Ended)
        assert (ended.outcome is not None) == noticed


def test_an_evaluation_that_somebody_kills_is_a_lost_place() -> None:
    with executor(misbehave) as running:
        running.submit(evaluation(0, how="killed"))
        lost = events_until(running, is_ended)[-1]
        assert lost == Ended(0, None, "killed by SIGKILL (out of memory?)")
        running.submit(evaluation(0, how="killed inside"), attempt=2)
        lost = events_until(running, is_ended)[-1]
        assert lost == Ended(0, None, "command was killed by SIGKILL", attempt=2)
        running.submit(evaluation(0, how="good"), attempt=3)
        good = events_until(running, is_ended)[-1]
        assert isinstance(good, Ended) and good.outcome is not None


def test_cancelling_ends_what_runs(tmp_path: Path) -> None:
    def hang(config: dict[str, Any], report: Callable[[int, float], bool]) -> float:
        (tmp_path / "pid").write_text(str(os.getpid()))
        report(1, 0.0)
        time.sleep(600)
        return 1.0

    with executor(hang) as running, pytest.raises(Cancelled):

        def cancel(*_: object) -> bool:
            running.cancel()
            return False

        list(evaluate_all(running, evaluations({}), cancel))
    await_end(int((tmp_path / "pid").read_text()))


def test_an_evaluator_that_does_not_start_is_told() -> None:
    with pytest.raises(EvaluatorError, match="cannot import 'no_such_module'"):
        LocalExecutor(FunctionEvaluator("no_such_module:f"))


@pytest.mark.slow
@pytest.mark.parametrize(("kills", "loads"), [(2, 3), (99, 3)])
def test_a_worker_killed_while_it_loads_is_started_three_times(
    kills: int, loads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deadly_module.py").write_text(
        "import os, signal\n"
        f"path = {str(tmp_path / 'loads')!r}\n"
        "with open(path, 'a') as file:\n"
        "    file.write('.')\n"
        f"if os.path.getsize(path) <= {kills}:\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "def f(config):\n"
        "    return 1.0\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    survives = kills < loads
    expected = contextlib.nullcontext() if survives else pytest.raises(EvaluatorError, match="-9")
    with expected, executor("deadly_module:f") as running:
        ((_, outcome),) = evaluate_all(running, [evaluation()])
        assert outcome.metrics == {"value": 1.0}
    assert (tmp_path / "loads").read_text() == "." * loads


@pytest.mark.slow
def test_a_worker_that_exits_while_it_loads_is_not_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "leaving_module.py").write_text(
        f"open({str(tmp_path / 'loads')!r}, 'a').write('.')\nimport os\nos._exit(7)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(EvaluatorError, match="code 7 while it was loading"):
        LocalExecutor(FunctionEvaluator("leaving_module:f"), workers=2)
    assert len((tmp_path / "loads").read_text()) <= 2


# -- a device that several workers share ----------------------------------------------------------


def crash_together(folder: Path, crashes: int) -> Callable[[dict[str, Any]], float]:
    """`crashes` evaluations at once crash: by a signal, an exit, a CUDA error."""

    def crash(config: dict[str, Any]) -> float:
        me = config["me"]
        (folder / str(me)).touch()
        while len(list(folder.iterdir())) < crashes:
            time.sleep(0.01)
        if me == 0:
            os.kill(os.getpid(), signal.SIGSEGV)
        if me == 1:
            os._exit(1)
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    return crash


@pytest.mark.slow
def test_crashes_at_the_same_time_on_one_device_are_lost_places(tmp_path: Path) -> None:
    crash = crash_together(tmp_path, 3)
    with executor(crash, workers=3, devices=["0"]) as running:
        for me in range(3):
            running.submit(evaluation(me, me=me), attempt=me)
        seen: list[Event] = []
        while sum(map(is_ended, seen)) < 3:
            seen += running.poll(60.0)
    assert {event.place for event in seen if isinstance(event, Began)} == {"gpu 0"}
    ended = {event.key: event for event in seen if isinstance(event, Ended)}
    for key, text in enumerate(("SIGSEGV", "code 1", "CUDA error")):
        assert ended[key].outcome is None and ended[key].attempt == key
        assert text in ended[key].lost and "gpu 0" in ended[key].lost


@pytest.mark.slow
def test_a_crash_alone_on_a_shared_device_is_a_failure_after_a_while() -> None:
    with executor(misbehave, workers=2, devices=["0"]) as running:
        running.submit(evaluation(0, how="segfault"))
        running.submit(evaluation(1, how="raise"))
        (raised,) = (e for e in events_until(running, is_ended) if is_ended(e))
        assert raised.key == 1, "an ordinary exception is not held back"
        assert running.room() == 1
        crashed = events_until(running, is_ended)[-1]
        assert isinstance(crashed, Ended) and crashed.outcome is not None
        assert (crashed.key, crashed.outcome.reason) == (0, "killed by SIGSEGV")
        assert running.room() == 2


@pytest.mark.slow
def test_crashes_on_devices_of_their_own_are_failures(tmp_path: Path) -> None:
    crash = crash_together(tmp_path, 2)
    found = outcomes(crash, {"me": 0}, {"me": 1}, workers=2, devices=["0", "1"])
    assert [o.reason for o in found] == [
        "killed by SIGSEGV",
        "exited with code 1 before it returned a result",
    ]


@pytest.mark.slow
def test_the_device_with_the_fewest_evaluations_gets_the_next(tmp_path: Path) -> None:
    def wait(config: dict[str, Any]) -> float:
        while not (tmp_path / config["until"]).exists():
            time.sleep(0.01)
        return 1.0

    with executor(wait, workers=4, devices=["0", "1"]) as running:
        for key, until in enumerate(("first", "first", "last")):
            running.submit(evaluation(key, until=until))
        (tmp_path / "first").touch()
        seen: list[Event] = []
        while sum(map(is_ended, seen)) < 2:
            seen += running.poll(60.0)
        running.submit(evaluation(3, until="first"))
        assert Began(3, "gpu 1") in running.poll(60.0)
        (tmp_path / "last").touch()


# -- the clock ------------------------------------------------------------------------------------


def test_an_evaluation_that_ended_while_nobody_polled_ended_in_time(tmp_path: Path) -> None:
    def measure(config: dict[str, Any]) -> float:
        (tmp_path / "pid").write_text(str(os.getpid()))
        return 1.0

    with executor(measure, seconds=0.001) as running:
        running.submit(evaluation())
        await_file(tmp_path / "pid")
        await_end(int((tmp_path / "pid").read_text()))
        ended = events_until(running, is_ended)[-1]
        assert isinstance(ended, Ended) and ended.outcome is not None
        assert ended.outcome.reason is None


def test_the_time_that_a_report_waits_for_its_answer_does_not_count() -> None:
    ours, theirs = Pipe()
    with DefaultSelector() as selector, theirs:
        began = time.monotonic()
        process = EvaluationProcess(evaluation(), 1, ours, selector, limit=began + 10)
        assert process.due() == began + 10
        theirs.send(("report", (1, 0.5, began - 100)))
        assert process.read() == Reported(0, 1, 0.5)
        assert process.due() == float("inf"), "nobody has answered"
        process.answer()
        assert theirs.recv() is False
        assert process.due() >= began + 110
        process.close_pipe()


def test_prints_and_tracebacks_go_to_the_log(tmp_path: Path) -> None:
    def talk(config: dict[str, Any]) -> float:
        print("as it trains")
        raise KeyError("lost")

    log = tmp_path / "deeper" / "run.log"
    (failed,) = outcomes(talk, {}, log=log)
    assert failed.reason == "KeyError: 'lost'"
    assert "as it trains" in log.read_text() and "Traceback" in log.read_text()


def test_states_of_trials_still_to_come() -> None:
    assert [s for s in TrialState if not s.finished] == [TrialState.WAITING, TrialState.RUNNING]
