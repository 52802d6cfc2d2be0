"""`lm-searcher replay`."""

from __future__ import annotations

from typing import Annotated

import typer

from lm_searcher.agent.cli.options import RUNS, Folder, Json, Store, files_of, print_json


def replay(
    run: Annotated[str, typer.Argument(help="The run's name.")],
    store: Store = None,
    folder: Folder = RUNS,
    as_json: Json = False,
) -> None:
    """Recompute every decision of a run from its log; exit code 1 if one differs."""
    from lm_searcher.agent.loop.replay import replay
    from lm_searcher.agent.study.stored_run import stored_log, stored_run

    files = files_of(run, folder, store)
    log = stored_log(files)  # before the trials, which may go on meanwhile
    found = replay(files, stored_run(files), log)
    difference = found.difference
    if as_json:
        print_json(
            {
                "run": run,
                "decisions": found.decisions,
                "skipped": found.skipped,
                "difference": str(difference) if difference else None,
            }
        )
    else:
        skipped = f"; {found.skipped} cannot be recomputed" if found.skipped else ""
        verdict = f"the last differs: {difference}" if difference else "all as in the log"
        print(f"run '{run}': {found.decisions} decisions recomputed{skipped}; {verdict}")
    if difference is not None:
        raise typer.Exit(1)
