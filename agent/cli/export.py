"""`lm-searcher export`. A further format is a further option."""

from __future__ import annotations

from typing import Annotated

import typer

from lm_searcher.agent.cli.options import RUNS, Folder, Json, Store, files_of, print_json
from lm_searcher.spaces.errors import ConfigError


def export(
    run: Annotated[str, typer.Argument(help="The run's name.")],
    optuna: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Write an Optuna study to this storage, as in sqlite:///study.db."
        ),
    ] = None,
    store: Store = None,
    folder: Folder = RUNS,
    as_json: Json = False,
) -> None:
    """Write a run for other programs."""
    from lm_searcher.agent.optuna_view.export import export_study
    from lm_searcher.agent.results.result import read_run
    from lm_searcher.agent.study.storage import shown

    if optuna is None:
        raise ConfigError("export: no format is given; accepted: --optuna URL")
    trials = export_study(read_run(files_of(run, folder, store)), optuna)
    if as_json:
        print_json({"run": run, "optuna": shown(optuna), "trials": trials})
    else:
        print(f"wrote {trials} trials to study '{run}' in {shown(optuna)}")
