"""Crashes on a shared GPU: of one architecture, or of the GPU."""

from __future__ import annotations

import pytest

from lm_searcher.tools.executors.device_faults import FAULT_SECONDS, DeviceFaults
from lm_searcher.tools.executors.outcome_check import is_crash
from lm_searcher.tools.executors.protocol import Ended
from lm_searcher.tools.protocols import Outcome

SOON, LATER = FAULT_SECONDS / 2, FAULT_SECONDS * 1.5


def crashed(key: int) -> Ended:
    return Ended(key, Outcome({}, 1.0, "killed by SIGABRT"), attempt=2)


def lost_and_failed(settled: list[Ended]) -> tuple[list[int], list[int]]:
    """The keys of both kinds."""
    lost = [ended.key for ended in settled if ended.outcome is None]
    return lost, [ended.key for ended in settled if ended.outcome is not None]


def test_one_crash_is_held_back_and_then_a_failure() -> None:
    faults = DeviceFaults()
    assert faults.settle(0.0) == [] and faults.due() == float("inf")
    faults.hold(1, "0", 10.0, crashed(7))
    assert faults.held == {1} and faults.due() == 10.0 + FAULT_SECONDS
    assert faults.settle(10.0 + SOON) == []
    assert faults.settle(faults.due()) == [crashed(7)]
    assert faults.held == set() and faults.settle(99.0) == []


def test_crashes_of_several_workers_are_losses() -> None:
    faults = DeviceFaults()
    faults.hold(0, "0", 10.0, crashed(5))
    assert faults.settle(10.0) == []
    faults.hold(1, "0", 10.0 + SOON, crashed(6))
    settled = faults.settle(10.0 + SOON)
    assert lost_and_failed(settled) == ([5, 6], [])
    assert all(ended.attempt == 2 and "SIGABRT" in ended.lost for ended in settled)
    faults.hold(2, "0", 10.0 + 2 * SOON, crashed(8))
    assert lost_and_failed(faults.settle(10.0 + 2 * SOON)) == ([8], []), "one more of the same"


def test_crashes_far_apart_or_on_other_devices_are_failures() -> None:
    faults = DeviceFaults()
    faults.hold(0, "0", 10.0, crashed(5))
    faults.hold(1, "1", 10.0, crashed(6))
    faults.hold(2, "0", 10.0 + LATER, crashed(7))
    assert lost_and_failed(faults.settle(99.0)) == ([], [5, 6, 7])


def test_the_times_of_the_crashes_decide_not_when_they_are_heard_of() -> None:
    faults = DeviceFaults()
    faults.hold(0, "0", 10.0, crashed(5))
    assert faults.settle(10.0) == []
    faults.hold(1, "0", 10.1, crashed(6))  # heard of after a ranker's minute
    assert lost_and_failed(faults.settle(70.0)) == ([5, 6], [])


@pytest.mark.parametrize(
    ("reason", "fault"),
    [
        ("AcceleratorError: CUDA error: device-side assert triggered", True),
        ("RuntimeError: CUDA error: unspecified launch failure", True),
        ("RuntimeError: cuDNN error: CUDNN_STATUS_EXECUTION_FAILED", True),
        ("out of memory: CUDA error: out of memory", False),
        ("out of memory: CUDA out of memory. Tried to allocate 20.00 MiB", False),
        ("killed by SIGSEGV", True),
        ("exited with code 3 before it returned a result", True),
        ("command exited with code 3", False),
        ("timed out after 2 s", False),
        ("ValueError: two lines", False),
    ],
)
def test_which_failures_may_be_a_fault_of_the_device(reason: str, fault: bool) -> None:
    assert is_crash(reason) == fault
