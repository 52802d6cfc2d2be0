"""A Ray cluster on this machine, with GPUs that Ray believes in."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import psutil

TRIES = 3
"""Ray gives a starting node 30 s, which are not enough beside other work."""


@contextlib.contextmanager
def ray_cluster(gpus: int, **head: Any) -> Iterator[Any]:
    """A `ray.cluster_utils.Cluster` of one node; all its processes are gone afterwards."""
    from ray.cluster_utils import Cluster

    node = {
        "num_cpus": 2,
        "num_gpus": gpus,
        "include_dashboard": False,
        "_system_config": {"health_check_initial_delay_ms": 0, "health_check_period_ms": 1000},
    }
    before = {process.pid for process in psutil.process_iter()}
    for left in reversed(range(TRIES)):
        cluster = Cluster()
        try:
            cluster.add_node(**node, **head)
            break
        except Exception:
            cluster.shutdown()
            if not left:
                raise
    try:
        yield cluster
    finally:
        cluster.shutdown()
        left_over = [p for p in psutil.process_iter() if p.pid not in before and of_ray(p)]
        _, alive = psutil.wait_procs(left_over, timeout=30)
        assert not [p for p in alive if of_ray(p)], "processes are left"


def of_ray(process: psutil.Process) -> bool:
    """Whether it is of a cluster, or of an executor that uses one."""
    try:
        words = " ".join(process.cmdline())
        ended = process.status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
    return not ended and ("ray::" in words or "/ray/" in words or "tools.executors." in words)


def await_slots(count: int) -> list[psutil.Process]:
    """The processes of slots on this machine, once there are so many: a killed one takes a while
    to be gone."""
    deadline = time.monotonic() + 60
    while len(found := _slots()) != count:
        assert time.monotonic() < deadline, f"{len(found)} slots"
        time.sleep(0.02)
    return found


def _slots() -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            words = process.cmdline()
            if words and words[0].startswith("ray::Slot"):
                found.append(process)
    return found
