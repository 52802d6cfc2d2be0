"""`lm-searcher worker`."""

from __future__ import annotations

import math
import os
import platform
from typing import Annotated

import typer

from lm_searcher.spaces.errors import ConfigError, StoreError, unknown


def worker(
    url: Annotated[str, typer.Argument(help="The runs' store: postgresql://...")],
    run: Annotated[
        str | None, typer.Option(help="The run to serve; default: all of the store, in turn.")
    ] = None,
    gpu: Annotated[
        str | None,
        typer.Option(help="The CUDA device; default: the first that CUDA_VISIBLE_DEVICES names."),
    ] = None,
    idle: Annotated[
        float | None, typer.Option(min=0, help="End after so many seconds without a trial.")
    ] = None,
    grace: Annotated[
        float,
        typer.Option(min=0, help="Seconds that SIGTERM and Ctrl-C give the trial to finish."),
    ] = 20.0,
) -> None:
    """Evaluate trials of runs with [executor] kind = "queue", one at a time."""
    from lm_searcher.agent.loop.queued_work import work_of
    from lm_searcher.agent.loop.signals import called_on_ctrl_c
    from lm_searcher.tools.devices import visible_devices
    from lm_searcher.tools.executors.queue.worker import QueueWorker

    devices = [gpu] if gpu is not None else visible_devices()
    device = devices[0] if devices else None
    place = f"{platform.node()} " + (f"gpu {device}" if devices else f"process {os.getpid()}")
    serving = QueueWorker(
        url,
        work_of,
        place,
        run="" if run is None else run_id(url, run),
        device=device,
        idle=math.inf if idle is None else idle,
        grace=grace,
        tell=_say,
    )
    signals = 0

    def interrupted() -> None:
        nonlocal signals
        signals += 1
        if signals == 1:
            _say(
                f"ending: the trial that runs has {grace:g} s (Ctrl-C again gives it back at once)"
            )
        serving.end(at_once=signals > 1)

    _say(f"{place} waits for trials")
    with called_on_ctrl_c(interrupted):
        serving.serve()


def run_id(url: str, name: str) -> str:
    """The id of the run of that name. Raises StoreError if there is none."""
    from sqlalchemy import select

    from lm_searcher.agent.study.storage import open_engine, shown, store_errors
    from lm_searcher.agent.study.tables import RUN

    if not url.startswith("postgresql"):
        raise ConfigError(f"'{shown(url)}'; accepted: postgresql://USER@HOST/DATABASE")
    with (
        open_engine(url, create=False) as engine,
        store_errors(url),
        engine.connect() as connection,
    ):
        rows = connection.execute(select(RUN.c.name, RUN.c.id))
        found = {row.name: str(row.id) for row in rows}
    if name not in found:
        raise StoreError(f"store '{shown(url)}': {unknown('run', name, found)}")
    return found[name]


def _say(line: str) -> None:
    print(line, flush=True)
