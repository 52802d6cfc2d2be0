"""`lm-searcher run`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lm_searcher.agent.cli.options import (
    Json,
    SettingsCommand,
    overrides,
    plain_console,
    print_json,
    setting,
    words,
)
from lm_searcher.spaces.errors import UserError

if TYPE_CHECKING:
    from lm_searcher.agent.search import Search

FLAGS = {
    "name": "run.name",
    "seed": "run.seed",
    "store": "store.url",
    "folder": "run.folder",
    "ranker": "ranker.name",
    "workers": "executor.workers",
    "trials": "budget.trials",
}
"""The setting of each flag."""


class RunCommand(SettingsCommand):
    """The command's flags set keys of the run file."""

    MODEL = "lm_searcher.agent.settings.run_file:RunFile"


def run(
    config: Annotated[Path, typer.Argument(help="The run file (TOML).")],
    trials: Annotated[int | None, setting(FLAGS["trials"])] = None,
    seed: Annotated[int | None, setting(FLAGS["seed"])] = None,
    ranker: Annotated[str | None, setting(FLAGS["ranker"])] = None,
    workers: Annotated[int | None, setting(FLAGS["workers"])] = None,
    name: Annotated[str | None, setting(FLAGS["name"])] = None,
    objective: Annotated[
        list[str] | None, typer.Option(help="METRIC:max or METRIC:min; several: their front.")
    ] = None,
    constraint: Annotated[
        list[str] | None, typer.Option(help='A bound on a metric: "params_m <= 1.0".')
    ] = None,
    store: Annotated[str | None, setting(FLAGS["store"])] = None,
    folder: Annotated[Path | None, setting(FLAGS["folder"])] = None,
    as_json: Json = False,
) -> None:
    """Search, or go on with the run of that name."""
    from lm_searcher.agent.search import Search

    flags = {"name": name, "seed": seed, "store": store, "folder": folder}
    flags |= {"ranker": ranker, "workers": workers, "trials": trials}
    given = overrides(FLAGS, flags)
    if objective:
        given |= {"objective": None, "objectives": list(map(parse_objective, objective))}
    if constraint:
        given["constraints"] = constraint
    search = Search.from_file(config, overrides=given)
    lists = {"objective": objective or [], "constraint": constraint or []}
    _search(search, resume_command(config, flags, lists), trials, as_json)


def _search(search: Search, resume: str, trials: int | None, as_json: bool) -> None:
    """Run the search and show it; exit code 130 after Ctrl-C, 1 if it ended by failures."""
    from lm_searcher.agent.loop.stopping import Interrupted
    from lm_searcher.agent.results.live import LiveView
    from lm_searcher.agent.results.summary import print_summary

    console = plain_console(stderr=as_json, quiet=as_json)
    budget, problem = search.settings.budget.trials, search.problem
    title = f"{search.files.name}: {problem.space.name}, {search.settings.ranker.name}"
    view = LiveView(console, title, problem.objectives, budget)
    search.observe = view
    try:
        with view:
            result = search.run(begun=view.resume)
    except Interrupted:
        message = f"stopped; everything finished is stored. Continue with: {resume}"
        print(message, file=sys.stderr)
        raise typer.Exit(130) from None
    if as_json:
        print_json(result.to_json())
    else:
        print_summary(console, result, resume.replace(f"--trials {trials}", "--trials N"))
    if result.stop is not None and result.stop.failed:
        print(f"run '{result.run}' ended: {result.stop}", file=sys.stderr)
        raise typer.Exit(1)


def parse_objective(text: str) -> dict[str, str]:
    """METRIC:max or METRIC:min as an entry of `objectives`. Raises UserError."""
    metric, colon, direction = text.rpartition(":")
    if not colon or not metric or direction not in ("max", "min"):
        raise UserError(f"--objective '{text}'; accepted: METRIC:max or METRIC:min")
    return {"metric": metric, "direction": direction}


def resume_command(config: Path, flags: dict[str, Any], lists: dict[str, list[str]]) -> str:
    """The command line that goes on with this run, without a store's password."""
    from lm_searcher.agent.study.storage import shown

    store = flags["store"]
    command = ["lm-searcher", "run", str(config)]
    command += words(flags | {"store": None if store is None else shown(store)})
    for flag, values in lists.items():
        for value in values:
            command += words({flag: value})
    return shlex.join(command)
