"""`lm-searcher migrate`."""

from __future__ import annotations

from typing import Annotated

import typer

from lm_searcher.agent.cli.options import RUNS, Folder, Json, Store, files_of, print_json


def migrate(
    run: Annotated[str, typer.Argument(help="The run's name.")],
    store: Store = None,
    folder: Folder = RUNS,
    as_json: Json = False,
) -> None:
    """Take over a run of an earlier version; a run that goes on is taken over by itself."""
    from lm_searcher.agent.study.migration import migrate_run
    from lm_searcher.agent.study.records import FORMAT
    from lm_searcher.agent.study.stored_run import stored_run

    files = files_of(run, folder, store)
    trials = len(stored_run(files).trials)  # before a file is opened to be written
    done = migrate_run(files)
    if as_json:
        print_json({"run": run, "format": FORMAT, "trials": trials, "migrated": done is not None})
    elif done is None:
        print(f"run '{run}' is of format {FORMAT} already; nothing was changed")
    else:
        print(
            f"run '{run}' was taken over from format {done.format} to {FORMAT}: {trials} trials; "
            "Optuna's tables stay as they are"
        )
