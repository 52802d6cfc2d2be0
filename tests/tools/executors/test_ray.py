"""Evaluations on a Ray cluster of this machine: the contract, what goes wrong, and takeovers."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from executor_contract import (
    ExecutorContract,
    Start,
    await_end,
    evaluation,
    events_until,
    is_ended,
    is_report,
    started,
)
from ray_cluster import await_slots, ray_cluster

from lm_searcher.spaces.errors import ConfigError, EvaluatorError, UserError
from lm_searcher.tools.devices import SHARE
from lm_searcher.tools.evaluators.function import FunctionEvaluator
from lm_searcher.tools.executors.cluster.executor import RayExecutor
from lm_searcher.tools.executors.device_faults import FAULT_SECONDS
from lm_searcher.tools.executors.protocol import Began, Ended, Event, Executor, Reported, Site
from lm_searcher.tools.executors.settings import executor_settings
from lm_searcher.tools.protocols import Evaluator

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with ray_cluster(gpus=2) as made:
        yield made


@pytest.fixture
def start(cluster: Any, tmp_path: Path) -> Iterator[Start]:
    """Starts an executor with all its places, or one that takes the last one's over."""

    def make(
        evaluator: Evaluator, workers: int = 1, again: bool = False, **options: Any
    ) -> RayExecutor:
        site = Site(id=str(tmp_path), log=tmp_path / "run.log")
        options = {"address": cluster.address, "site": site} | options
        executor = RayExecutor(evaluator, workers, **options)
        if not again:
            await_room(executor, workers)
        return executor

    yield from started(make)


def await_room(executor: Executor, room: int) -> None:
    deadline = time.monotonic() + 100
    while executor.room() < room:
        assert time.monotonic() < deadline, f"only {executor.room()} places"
        executor.poll(0.0)
        time.sleep(0.02)


def lost(event: Event) -> bool:
    return isinstance(event, Ended) and event.outcome is None


def values(events: list[Event]) -> dict[int, float]:
    """The values of what ended, by key; each key once."""
    ended = [e for e in events if isinstance(e, Ended) and e.outcome is not None]
    assert all(e.outcome and not e.outcome.reason for e in ended), ended
    found = {e.key: e.outcome.metrics["value"] for e in ended if e.outcome}
    assert len(found) == len(ended)
    return found


class TestRayExecutor(ExecutorContract):
    at_that_report = False
    outlives = True


# -- places ----------------------------------------------------------------------------------


def test_a_share_of_a_gpu(start: Start) -> None:
    def look(config: dict[str, Any]) -> dict[str, float]:
        return {
            "value": float(os.environ["CUDA_VISIBLE_DEVICES"]),
            "share": float(os.environ[SHARE]),
        }

    executor = start(look, workers=4, gpus=0.5)
    for key in range(4):
        executor.submit(evaluation(key))
    seen: list[Event] = []
    while sum(map(is_ended, seen)) < 4:
        seen += executor.poll(10.0)
    metrics = [dict(e.outcome.metrics) for e in seen if isinstance(e, Ended) and e.outcome]
    assert sorted(m["value"] for m in metrics) == [0, 0, 1, 1]
    assert {m["share"] for m in metrics} == {0.45}
    places = {e.key: e.place for e in seen if isinstance(e, Began)}
    host = socket.gethostname()
    assert sorted(places.values()) == [f"{host} gpu {n}" for n in (0, 0, 1, 1)]


def test_without_a_gpu_none_is_seen(start: Start) -> None:
    def look(config: dict[str, Any]) -> float:
        return float(os.environ["CUDA_VISIBLE_DEVICES"] == "")

    executor = start(look, gpus=0)
    executor.submit(evaluation())
    assert values(events_until(executor, is_ended)) == {0: 1.0}


def test_what_evaluations_print_is_in_the_log(start: Start, tmp_path: Path) -> None:
    def talk(config: dict[str, Any]) -> float:
        print("as it trains")
        raise KeyError("no such layer")

    executor = start(talk)
    executor.submit(evaluation())
    ended = events_until(executor, is_ended)[-1]
    assert isinstance(ended, Ended) and ended.outcome is not None
    assert ended.outcome.reason == "KeyError: 'no such layer'"
    log = (tmp_path / "run.log").read_text()
    assert "as it trains" in log and "Traceback" in log


def test_more_than_there_is_room_for_waits(start: Start) -> None:
    executor = start(lambda config: config["x"])
    for key in range(4):
        executor.submit(evaluation(key, x=key))
    seen: list[Event] = []
    while sum(map(is_ended, seen)) < 4:
        seen += executor.poll(10.0)
    assert values(seen) == {key: float(key) for key in range(4)}


# -- losses ----------------------------------------------------------------------------------


def test_a_killed_slot_is_a_loss_and_another_takes_its_place(start: Start, tmp_path: Path) -> None:
    executor = start(ExecutorContract.waiting_for(tmp_path / "go"))
    executor.submit(evaluation(7))
    await_began(tmp_path, 1)
    (slot,) = await_slots(1)
    slot.kill()
    ended = events_until(executor, is_ended)[-1]
    assert isinstance(ended, Ended) and ended.outcome is None and "was lost" in ended.lost
    for pid in began(tmp_path):
        await_end(pid)
    (tmp_path / "go").touch()
    await_room(executor, 1)
    executor.submit(evaluation(7), attempt=2)
    ended = events_until(executor, is_ended)[-1]
    assert isinstance(ended, Ended) and ended.outcome is not None and ended.attempt == 2


def test_places_follow_nodes_that_come_and_go(cluster: Any, start: Start, tmp_path: Path) -> None:
    executor = start(ExecutorContract.waiting_for(tmp_path / "go"), workers=100, again=True)
    await_room(executor, 2)
    node = cluster.add_node(num_gpus=1)
    await_room(executor, 3)
    for key in range(3):
        executor.submit(evaluation(key))
    await_began(tmp_path, 3)
    cluster.remove_node(node, allow_graceful=False)
    seen = events_until(executor, lost)
    assert sum(map(is_ended, seen)) == 1
    (tmp_path / "go").touch()
    while sum(map(is_ended, seen)) < 3:
        seen += executor.poll(10.0)
    assert executor.room() == 2 and len(values(seen)) == 2
    assert any("joined" in note for note in executor.notes)  # type: ignore[attr-defined]


def began(folder: Path) -> list[int]:
    return [int(path.name.partition("-")[2]) for path in folder.glob("began-*")]


def await_began(folder: Path, count: int) -> None:
    deadline = time.monotonic() + 60
    while len(began(folder)) < count:
        assert time.monotonic() < deadline, "an evaluation has not begun"
        time.sleep(0.01)


def test_crashes_on_a_shared_gpu(start: Start, tmp_path: Path) -> None:
    """Several at once are the GPU's fault, one alone is the evaluation's."""

    def crash(config: dict[str, Any]) -> float:
        (tmp_path / f"began-{os.getpid()}").touch()
        while not (tmp_path / "go").exists():
            time.sleep(0.01)
        os._exit(3)

    executor = start(crash, workers=4, gpus=0.5)
    for key in range(4):
        executor.submit(evaluation(key))
    await_began(tmp_path, 4)
    (tmp_path / "go").touch()
    seen: list[Event] = []
    while sum(map(is_ended, seen)) < 4:
        seen += executor.poll(10.0)
    assert sum(map(lost, seen)) == 4
    time.sleep(2 * FAULT_SECONDS)  # what happened before explains no crash any more
    executor.submit(evaluation(5))
    ended = events_until(executor, is_ended)[-1]
    assert isinstance(ended, Ended) and ended.outcome is not None
    assert (ended.outcome.reason or "").startswith("exited with code 3")


def test_slots_of_another_share_end_with_what_they_hold(start: Start, tmp_path: Path) -> None:
    first = start(ExecutorContract.waiting_for(tmp_path / "go"), workers=2)
    first.submit(evaluation())
    await_began(tmp_path, 1)
    first.close(keep=True)
    second = start(lambda config: 1.0, workers=4, gpus=0.5, again=True)
    second.submit(evaluation())
    second.poll(0.0)
    (tmp_path / "go").touch()
    assert values(events_until(second, is_ended)) == {0: 1.0}
    assert len(began(tmp_path)) == 1
    await_room(second, 4)


# -- controllers -----------------------------------------------------------------------------

CONTROLLER = """
import os, sys, time
from pathlib import Path
from lm_searcher.tools.evaluators.function import FunctionEvaluator
from lm_searcher.tools.executors.cluster.executor import RayExecutor
from lm_searcher.tools.executors.protocol import Ended, Site
from lm_searcher.tools.protocols import Evaluation

address, folder, orphan = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])

def wait(config):
    (Path(config["folder"]) / f"began-{os.getpid()}").touch()
    while not (Path(config["folder"]) / f"go-{config['key']}").exists():
        time.sleep(0.01)
    return float(config["key"])

site = Site(id=str(folder), log=folder / "run.log")
executor = RayExecutor(FunctionEvaluator(wait), 2, address, orphan=orphan, site=site)
while executor.room() < 2:
    executor.poll(0.0)
    time.sleep(0.02)
for key in range(2):
    executor.submit(Evaluation(key, str(key), {"key": key, "folder": str(folder)}, 0))
while True:
    for event in executor.poll(60.0):
        with (folder / "seen").open("a") as file:
            print(event, file=file)
"""


@contextlib.contextmanager
def controller(
    cluster: Any, folder: Path, orphan: float = 600.0
) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that drives two evaluations, which wait for the files go-0 and go-1."""
    command = [sys.executable, "-c", CONTROLLER, cluster.address, str(folder), str(orphan)]
    process = subprocess.Popen(command)
    try:
        await_began(folder, 2)
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_killed_controllers_evaluations_are_found_again(
    cluster: Any, start: Start, tmp_path: Path
) -> None:
    with controller(cluster, tmp_path) as first:
        first.kill()
        first.wait()
        (tmp_path / "go-1").touch()  # one ends meanwhile, the other still runs
        deadline = time.monotonic() + 60
        while sum(map(psutil.pid_exists, began(tmp_path))) > 1:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        second = start(lambda config: -1.0, again=True, workers=2)
        assert second.room() == 0
        for key in (1, 0):
            second.submit(evaluation(key))
        seen = events_until(second, is_ended)
        assert values(seen) == {1: 1.0}
        (tmp_path / "go-0").touch()
        seen += events_until(second, is_ended)
        assert values(seen) == {0: 0.0, 1: 1.0}
        assert len(began(tmp_path)) == 2, "begun anew"
        await_room(second, 2)
        second.submit(evaluation(2))
        assert values(events_until(second, is_ended)) == {2: -1.0}, "the new evaluator"


def test_a_slot_keeps_several_outcomes_until_they_are_recorded(
    start: Start, tmp_path: Path
) -> None:
    def measure(config: dict[str, Any]) -> float:
        (tmp_path / f"began-{os.getpid()}").touch()
        return float(config["x"])

    first = start(measure, ahead=2)
    assert first.room() == 3
    for key in range(3):
        first.submit(evaluation(key, x=key))
    assert first.room() == 0
    await_began(tmp_path, 3)
    for pid in began(tmp_path):
        await_end(pid)
    first.close(keep=True)  # nothing has been polled
    second = start(measure, again=True)
    for key in range(3):
        second.submit(evaluation(key, x=key))
    seen: list[Event] = []
    while sum(map(is_ended, seen)) < 3:
        seen += second.poll(10.0)
    assert values(seen) == {0: 0.0, 1: 1.0, 2: 2.0}
    assert len(began(tmp_path)) == 3, "begun anew"


def test_what_is_not_submitted_again_is_ended(cluster: Any, start: Start, tmp_path: Path) -> None:
    with controller(cluster, tmp_path) as first:
        first.kill()
        first.wait()
        second = start(lambda config: -1.0, again=True, workers=2)
        second.submit(evaluation(1), attempt=2)  # lost meanwhile, as the store knows
        seen = events_until(second, is_ended)
        assert values(seen) == {1: -1.0}
        for pid in began(tmp_path):
            await_end(pid)
        await_room(second, 2)


def test_the_newest_controller_is_obeyed(cluster: Any, start: Start, tmp_path: Path) -> None:
    with controller(cluster, tmp_path) as first:
        second = start(lambda config: -1.0, again=True, workers=2)
        for key in (0, 1):
            second.submit(evaluation(key))
        second.poll(0.0)
        assert first.wait(timeout=60) == 1, "the first has not noticed"
        for key in (0, 1):
            (tmp_path / f"go-{key}").touch()
        seen: list[Event] = []
        while sum(map(is_ended, seen)) < 2:
            seen += second.poll(10.0)
        assert values(seen) == {0: 0.0, 1: 1.0}
        assert len(began(tmp_path)) == 2, "begun anew"
        assert "Ended" not in (tmp_path / "seen").read_text()


def test_slots_end_themselves_without_a_controller(cluster: Any, tmp_path: Path) -> None:
    with controller(cluster, tmp_path, orphan=2.0) as first:
        alone = await_slots(2)
        first.kill()
        first.wait()
        gone, _ = psutil.wait_procs(alone, timeout=60)
        assert len(gone) == 2
        for pid in began(tmp_path):
            await_end(pid)


def test_closing_leaves_what_is_kept_only(cluster: Any, start: Start, tmp_path: Path) -> None:
    executor = start(ExecutorContract.waiting_for(tmp_path / "go"), workers=2)
    executor.submit(evaluation())
    await_began(tmp_path, 1)
    before = await_slots(2)
    executor.close(keep=True)
    gone, kept = psutil.wait_procs(before, timeout=5)
    assert (len(gone), len(kept)) == (1, 1)
    start(lambda config: 1.0, again=True).close()
    await_slots(0)
    for pid in began(tmp_path):
        await_end(pid)


def test_a_killed_driver_is_replaced(start: Start, tmp_path: Path) -> None:
    def train(config: dict[str, Any], report: Callable[[int, float], bool]) -> float:
        (tmp_path / f"began-{os.getpid()}").touch()
        report(1, 0.1)
        while not (tmp_path / "go").exists():
            time.sleep(0.01)
        report(2, 0.2)
        return 1.0

    executor = start(train)
    executor.submit(evaluation())
    seen = events_until(executor, is_report)
    (driver,) = (p for p in psutil.Process().children() if "cluster.driver" in str(p.cmdline()))
    driver.kill()
    while not executor.notes:  # type: ignore[attr-defined]
        seen += executor.poll(10.0)
    (tmp_path / "go").touch()
    seen += events_until(executor, is_ended)
    assert [type(event) for event in seen] == [Began, Reported, Reported, Ended]
    assert values(seen) == {0: 1.0} and len(began(tmp_path)) == 1


# -- the cluster -----------------------------------------------------------------------------


def test_a_cluster_that_is_gone_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "5")
    function = ExecutorContract.waiting_for(tmp_path / "go")
    with contextlib.ExitStack() as stack:
        with ray_cluster(gpus=1) as first:
            address = first.address
            executor = RayExecutor(
                FunctionEvaluator(function), address=address, site=Site(log=tmp_path / "run.log")
            )
            stack.callback(executor.close)
            await_room(executor, 1)
            executor.submit(evaluation(3))
            await_began(tmp_path, 1)
        seen: list[Event] = []
        while not any("is lost" in note for note in executor.notes):
            seen += executor.poll(60.0)
        assert executor.room() == 0
        port = int(address.rpartition(":")[2])
        stack.enter_context(ray_cluster(gpus=1, gcs_server_port=port))
        while not any(map(lost, seen)):  # before the cluster was gone, or when it is back
            seen += executor.poll(10.0)
        await_room(executor, 1)
        assert any("again" in note for note in executor.notes)
        (tmp_path / "go").touch()
        executor.submit(evaluation(3), attempt=2)
        assert values(events_until(executor, is_ended)) == {3: 1.0}
        executor.close()


# -- mistakes --------------------------------------------------------------------------------


def made(error: type[UserError], **keys: Any) -> str:
    """The one line that a section of the run file gets."""
    with pytest.raises(error) as caught:
        executor_settings({"kind": "ray"} | keys).make(
            FunctionEvaluator(lambda config: 1.0), Site()
        )
    assert "\n" not in str(caught.value)
    return str(caught.value)


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def test_an_address_without_a_cluster() -> None:
    address = f"127.0.0.1:{free_port()}"
    assert address.partition(":")[2] in made(ConfigError, address=address)
    assert "HOST:PORT" in made(ConfigError, address="somewhere")


def test_auto_without_a_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free_port()}")
    assert "no Ray cluster answers" in made(ConfigError)
    monkeypatch.setenv("RAY_ADDRESS", "ray://127.0.0.1:10001")
    assert "Ray Client" in made(ConfigError)


def test_a_cluster_without_gpus() -> None:
    with ray_cluster(gpus=0) as none:
        assert "accepted: gpus = 0" in made(ConfigError, address=none.address, gpus=0.5)


def test_a_node_too_small(cluster: Any) -> None:
    assert "has 8 GPU" in made(ConfigError, address=cluster.address, gpus=8)


def test_an_evaluator_that_does_not_start(start: Callable[..., RayExecutor]) -> None:
    executor = start("no_such_module:f", workers=2, again=True)
    with pytest.raises(EvaluatorError, match="cannot import 'no_such_module'"):
        await_room(executor, 1)
