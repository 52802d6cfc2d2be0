"""The command line. Heavy modules are imported by the command that needs them."""

from __future__ import annotations

import json
import shlex
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from lm_searcher.agent.cli.agents import agent, chat
from lm_searcher.agent.cli.train_ranker import train_ranker
from lm_searcher.spaces.errors import UserError

ClickException = cast("type[typer.BadParameter]", typer.BadParameter.__mro__[2])
"""What is wrong with a command line; typer has no public name for it."""

if TYPE_CHECKING:
    from rich.console import Console

    from lm_searcher.agent.study.paths import RunFiles

app = typer.Typer(
    name="lm-searcher",
    help="Find the best architecture with few expensive trainings.",
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(train_ranker, name="train-ranker")

Json = Annotated[bool, typer.Option("--json", help="Print machine-readable results.")]
Store = Annotated[
    str | None, typer.Option(help="Optuna storage URL; default: SQLite in the run's folder.")
]
Folder = Annotated[Path, typer.Option(help="Where runs are kept.")]
RUNS = Path("runs")


@app.command()
def run(
    config: Annotated[Path, typer.Argument(help="The run file (TOML).")],
    trials: Annotated[int | None, typer.Option(help="Budget in trials.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the search.")] = None,
    ranker: Annotated[str | None, typer.Option(help="Who picks the architectures.")] = None,
    workers: Annotated[int | None, typer.Option(help="Trials at once.")] = None,
    name: Annotated[str | None, typer.Option(help="The run's name; default: the file's.")] = None,
    objective: Annotated[
        list[str] | None, typer.Option(help="METRIC:max or METRIC:min; several: their front.")
    ] = None,
    constraint: Annotated[
        list[str] | None, typer.Option(help='A bound on a metric: "params_m <= 1.0".')
    ] = None,
    store: Store = None,
    folder: Annotated[Path | None, typer.Option(help="Where runs are kept.")] = None,
    as_json: Json = False,
) -> None:
    """Search, or go on with the run of that name."""
    from lm_searcher.agent.loop.stopping import Interrupted
    from lm_searcher.agent.results.live import LiveView
    from lm_searcher.agent.results.summary import print_summary
    from lm_searcher.agent.search import Search

    given: dict[str, Any] = {}
    for section, key, value in (
        ("budget", "trials", trials),
        ("run", "seed", seed),
        ("ranker", "name", ranker),
        ("executor", "workers", workers),
        ("run", "name", name),
        ("store", "url", store),
        ("run", "folder", folder),
    ):
        if value is not None:
            given.setdefault(section, {})[key] = value
    if objective:
        given |= {"objective": None, "objectives": list(map(_objective, objective))}
    if constraint:
        given["constraints"] = constraint
    search = Search.from_file(config, overrides=given)
    resume = resume_command(config, search.files, given)
    console = _console(stderr=as_json, quiet=as_json)
    budget = search.settings.budget.trials
    title = f"{search.files.name}: {search.problem.space.name}, {search.settings.ranker.name}"
    view = LiveView(console, title, search.problem.objectives, budget)
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


def _objective(text: str) -> dict[str, str]:
    metric, colon, direction = text.rpartition(":")
    if not colon or not metric or direction not in ("max", "min"):
        raise UserError(f"--objective '{text}'; accepted: METRIC:max or METRIC:min")
    return {"metric": metric, "direction": direction}


def resume_command(config: Path, files: RunFiles, given: dict[str, Any]) -> str:
    """The command line that goes on with this run, a store's password left out."""
    from lm_searcher.agent.study.storage import shown

    words = ["lm-searcher", "run", str(config)]
    for section, key, flag in (
        ("run", "name", "--name"),
        ("run", "seed", "--seed"),
        ("store", "url", "--store"),
        ("run", "folder", "--folder"),
        ("ranker", "name", "--ranker"),
        ("executor", "workers", "--workers"),
        ("budget", "trials", "--trials"),
    ):
        if key in given.get(section, {}):
            value = str(given[section][key])
            words += [flag, shown(value) if key == "url" else value]
    for goal in given.get("objectives", []):
        words += ["--objective", f"{goal['metric']}:{goal['direction']}"]
    for bound in given.get("constraints", []):
        words += ["--constraint", bound]
    return shlex.join(words)


@app.command()
def show(
    run: Annotated[str, typer.Argument(help="The run's name.")],
    store: Store = None,
    folder: Folder = RUNS,
    as_json: Json = False,
) -> None:
    """What a run has found; while it goes on as well."""
    from lm_searcher.agent.results.result import read_run
    from lm_searcher.agent.results.summary import print_summary

    result = read_run(files_of(run, folder, store))
    if as_json:
        print_json(result.to_json())
    else:
        print_summary(_console(), result, "lm-searcher run with its run file")


@app.command()
def runs(store: Store = None, folder: Folder = RUNS, as_json: Json = False) -> None:
    """The runs there are."""
    from rich.table import Table

    from lm_searcher.agent.results.run_list import list_runs

    found = list_runs(folder, store)
    if as_json:
        print_json(found)
        return
    table = Table("run", "state", "space", "trials", "best", "NCode")
    for row in found:
        best = "-" if row["best"] is None else f"{row['best']:.4f}"
        if row.get("front"):
            best = f"front of {row['front']}"
        table.add_row(
            row["run"], row["state"], row["space"], str(row["trials"]), best, row["ncode"] or "-"
        )
    _console().print(table if found else f"no runs in {store or folder}")


@app.command()
def spaces(
    name: Annotated[str | None, typer.Argument(help="A built-in space or a TOML file.")] = None,
    as_json: Json = False,
) -> None:
    """The built-in search spaces, or one of them in full."""
    from rich.table import Table

    from lm_searcher.agent.settings.build import find_space
    from lm_searcher.spaces.builtin import BUILTIN, builtin

    if name is None:
        listed = [
            {"name": s.name, "positions": len(s.positions), "size": s.size}
            for s in map(builtin, sorted(BUILTIN))
        ]
        if as_json:
            print_json(listed)
            return
        table = Table("space", "positions", "architectures")
        for row in listed:
            table.add_row(str(row["name"]), str(row["positions"]), f"{row['size']:,}")
        _console().print(table)
        return
    space = find_space(name)
    if as_json:
        positions = [
            {"name": p.name, "choices": list(p.choices), "ordered": p.ordered}
            for p in space.positions
        ]
        print_json({"name": space.name, "size": space.size, "positions": positions})
        return
    table = Table("position", "options", title=f"{space.name}: {space.size:,} architectures")
    for position in space.positions:
        order = " (ordered)" if position.ordered else ""
        table.add_row(position.name, ", ".join(map(str, position.choices)) + order)
    _console().print(table)


@app.command()
def decode(
    space: Annotated[str, typer.Argument(help="A built-in space or a TOML file.")],
    ncode: Annotated[str, typer.Argument(help="One digit a position.")],
    as_json: Json = False,
) -> None:
    """The architecture that an NCode stands for."""
    from lm_searcher.agent.settings.build import find_space

    found = find_space(space)
    config = found.decode(ncode)
    if as_json:
        canonical = found.canonical(ncode)
        print_json({"space": found.name, "ncode": ncode, "canonical": canonical, "config": config})
    else:
        for position, choice in config.items():
            print(f"{position}: {choice}")
        if found.describe is not None:
            print(found.description(ncode))


@app.command()
def report(
    run: Annotated[str, typer.Argument(help="The run's name.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The HTML file to write.")],
    store: Store = None,
    folder: Folder = RUNS,
    as_json: Json = False,
) -> None:
    """A run as one self-contained HTML page."""
    from lm_searcher.agent.results.report import write_report
    from lm_searcher.agent.results.result import read_run

    write_report(read_run(files_of(run, folder, store)), output)
    if as_json:
        print_json({"run": run, "report": str(output), "bytes": output.stat().st_size})
    else:
        print(f"wrote {output}")


app.command()(chat)
app.command()(agent)


@app.command()
def mcp(
    folder: Folder = RUNS,
    max_trials: Annotated[
        int, typer.Option(min=0, help="Trials that agents may start in all.")
    ] = 200,
    function: Annotated[
        list[str] | None, typer.Option(help='A "module:function" that they may measure with.')
    ] = None,
    ranker: Annotated[
        list[str] | None, typer.Option(help="A ranker that they may use beside the built-in ones.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Where CIFAR's python folders lie.")] = None,
) -> None:
    """Serve the tools to other agents, over the Model Context Protocol on stdin and stdout."""
    from lm_searcher.agent.toolbox.mcp_server import serve
    from lm_searcher.agent.toolbox.workspace import Workspace
    from lm_searcher.tools.rankers import check_name

    for name in ranker or ():
        check_name(name)
    serve(Workspace(folder, max_trials, tuple(function or ()), tuple(ranker or ()), data))


def files_of(name: str, folder: Path, store: str | None) -> RunFiles:
    """The files of the run of that name."""
    from lm_searcher.agent.settings.run_file import RunSection, checked
    from lm_searcher.agent.study.paths import RunFiles

    section = checked(RunSection, {"name": name, "folder": folder}, "run")
    return RunFiles.of(section.name or name, section.folder, store)


def _console(**options: Any) -> Console:
    """Prints names as they are: what is in brackets is no markup, and colons make no emoji."""
    from rich.console import Console

    return Console(markup=False, emoji=False, **options)


def print_json(document: Any) -> None:
    """On standard output, as one JSON document; no NaN and no infinity."""
    print(json.dumps(document, indent=1, allow_nan=False))


def main() -> None:
    """The entry point: a user's mistake is one line and exit code 2."""
    for entry in entry_points(group="lm_searcher.commands"):  # what agent may not import
        app.command(entry.name)(entry.load())
    try:
        sys.exit(app(args=sys.argv[1:] or ["--help"], standalone_mode=False))
    except UserError as error:
        print(f"lm-searcher: {error}", file=sys.stderr)
        sys.exit(2)
    except ClickException as error:  # an argument that the command does not take
        print(f"lm-searcher: {error.format_message()}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # the reader of our output has gone
        sys.stderr.close()
        sys.exit(1)


if __name__ == "__main__":
    main()
