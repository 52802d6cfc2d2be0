"""`lm-searcher dashboard`."""

from __future__ import annotations

import contextlib
import sys
from typing import Annotated

import typer

from lm_searcher.agent.cli.options import RUNS, Folder, Store, files_of
from lm_searcher.spaces.errors import StoreError

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def dashboard(
    runs: Annotated[
        list[str] | None,
        typer.Argument(help="Names of runs; default: all runs of the folder or store."),
    ] = None,
    host: Annotated[str, typer.Option(help="The address to serve at.")] = LOOPBACK[0],
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port to serve at; 0: any free one.")
    ] = 8080,
    store: Store = None,
    folder: Folder = RUNS,
) -> None:
    """Show runs in optuna-dashboard, also while they go on. Needs lm-searcher[dashboard]."""
    from lm_searcher.agent.optuna_view.dashboard import DashboardServer
    from lm_searcher.agent.optuna_view.sources import StoredRuns

    names = [files_of(name, folder, store).name for name in runs or []]
    source = StoredRuns(folder, store, names)
    if not source.names():
        raise StoreError(f"there are no runs in '{store or folder}'")
    with DashboardServer(source, host, port) as server:
        if host not in LOOPBACK:
            print("anyone who reaches this address can read the runs", file=sys.stderr)
        with contextlib.suppress(KeyboardInterrupt):
            print(f"{server.url}  (Ctrl-C ends it)", flush=True)
            server.serve_forever()
