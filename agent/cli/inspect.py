"""Commands that only read: show, runs, report, spaces, decode, schema."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lm_searcher.agent.cli.options import (
    RUNS,
    Folder,
    Json,
    Store,
    files_of,
    plain_console,
    print_json,
)
from lm_searcher.spaces.errors import SpaceError

if TYPE_CHECKING:
    from lm_searcher.spaces.space import SearchSpace


def show(
    run: Annotated[str, typer.Argument(help="The run's name.")],
    store: Store = None,
    folder: Folder = RUNS,
    as_json: Json = False,
) -> None:
    """What a run has found, also while it goes on."""
    from lm_searcher.agent.results.result import read_run
    from lm_searcher.agent.results.summary import print_summary

    result = read_run(files_of(run, folder, store))
    if as_json:
        print_json(result.to_json())
    else:
        print_summary(plain_console(), result, "lm-searcher run with its run file")


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
    plain_console().print(table if found else f"no runs in {store or folder}")


def spaces(
    name: Annotated[str | None, typer.Argument(help="A built-in space or a TOML file.")] = None,
    as_json: Json = False,
) -> None:
    """The built-in search spaces, or one of them in full."""
    if name is None:
        _list_spaces(as_json)
    else:
        _show_space(name, as_json)


def _list_spaces(as_json: bool) -> None:
    from rich.table import Table

    from lm_searcher.spaces.builtin import BUILTIN, builtin

    found: list[SearchSpace] = []
    for name in sorted(BUILTIN):
        try:
            found.append(builtin(name))
        except SpaceError as error:  # the space of a broken package
            print(f"lm-searcher: {error}", file=sys.stderr)
    if as_json:
        rows = [{"name": s.name, "positions": len(s.positions), "size": s.size} for s in found]
        print_json(rows)
        return
    table = Table("space", "positions", "architectures")
    for space in found:
        table.add_row(space.name, str(len(space.positions)), f"{space.size:,}")
    plain_console().print(table)


def _show_space(name: str, as_json: bool) -> None:
    from rich.table import Table

    from lm_searcher.agent.settings.build import find_space

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
    plain_console().print(table)


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


def schema(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="A reference of all keys instead.")
    ] = False,
) -> None:
    """The JSON schema of run files, for editors."""
    from lm_searcher.agent.settings.reference import reference
    from lm_searcher.agent.settings.schema import run_file_schema

    if markdown:
        print(reference(), end="")
    else:
        print(json.dumps(run_file_schema(), indent=2))
