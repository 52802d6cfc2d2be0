"""Tools about spaces and about what measures an architecture."""

from __future__ import annotations

import contextlib
import csv
import json
from pathlib import Path
from typing import Any

from lm_searcher.agent.settings import toml
from lm_searcher.agent.toolbox.arguments import DefineSpace, Nothing, SpaceName
from lm_searcher.agent.toolbox.result import ToolResult
from lm_searcher.agent.toolbox.workspace import Workspace
from lm_searcher.spaces.builtin import BUILTIN, builtin
from lm_searcher.spaces.errors import ConfigError, SpaceError, UserError, unknown
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.spaces.space_file import load_space, parse_space
from lm_searcher.spaces.table_files import BUILTIN as BUILTIN_TABLE
from lm_searcher.spaces.table_files import DATA
from lm_searcher.tools.data.datasets import NAMES
from lm_searcher.tools.evaluators.lora.tasks import TASKS
from lm_searcher.tools.rankers import RANKERS


def list_spaces(workspace: Workspace, args: Nothing) -> ToolResult:
    """Built-in and defined spaces; a space that does not load has its error."""
    rows: list[dict[str, Any]] = []
    for name in [*sorted(BUILTIN), *defined(workspace)]:
        try:
            space = find_space(workspace, name)
            row: dict[str, Any] = {"positions": len(space.positions), "size": space.size}
        except UserError as error:
            row = {"error": str(error)}
        rows.append({"name": name, "builtin": name in BUILTIN, **row})
    names = ", ".join(row["name"] for row in rows)
    return ToolResult(f"{len(rows)} search spaces: {names}", {"spaces": rows})


def describe_space(workspace: Workspace, args: SpaceName) -> ToolResult:
    """The positions and options of one space."""
    space = find_space(workspace, args.space)
    positions = [
        {"name": p.name, "choices": list(p.choices), "ordered": p.ordered} for p in space.positions
    ]
    summary = f"{args.space}: {len(positions)} positions, {space.size:,} architectures"
    builder = space.builder is not None
    return ToolResult(
        summary,
        {"name": args.space, "size": space.size, "trainable": builder, "positions": positions},
    )


def define_space(workspace: Workspace, args: DefineSpace) -> ToolResult:
    """Check a new space, then write its TOML file."""
    if args.name in BUILTIN:
        raise SpaceError(f"'{args.name}' is a built-in space; choose another name")
    path = space_path(workspace, args.name)
    if path.exists() and not args.replace:
        raise SpaceError(f"space '{args.name}' exists; choose another name, or set replace")
    document = {
        "name": args.name,
        "positions": [p.model_dump(exclude_none=True) for p in args.positions],
    }
    space = parse_space(document, args.name)
    toml.write_text(path, toml.dumps(document))
    summary = f"defined {args.name}: {len(space.positions)} positions, {space.size:,} architectures"
    file = path.relative_to(workspace.folder)
    return ToolResult(summary, {"name": args.name, "size": space.size, "file": str(file)})


def overwrites(workspace: Workspace, args: DefineSpace) -> str | None:
    """A user must confirm that a defined space is overwritten."""
    if args.replace and space_path(workspace, args.name).exists():
        return f"Overwrite the space '{args.name}'?"
    return None


EMBEDDED = ("digits", "pydoc")
"""Data sets that need no folder. pydoc is text, for the space transformer."""


def list_evaluators(workspace: Workspace, args: Nothing) -> ToolResult:
    """What start_search accepts as evaluator and as ranker."""
    datasets = [*dict.fromkeys([*EMBEDDED, *(NAMES if workspace.data else ())])]
    tables = {name: table_metrics(path) for name, path in tables_of(workspace).items()}
    rankers = [*RANKERS, *workspace.rankers]
    kinds = f"train on {', '.join(datasets)}; lora for {', '.join(TASKS)}; {len(tables)} tables"
    return ToolResult(
        f"{kinds}; {len(workspace.functions)} python functions; {len(rankers)} rankers",
        {
            "train": {"datasets": datasets, "spaces": sorted({*BUILTIN} - {"lora"})},
            "lora": {"tasks": list(TASKS), "spaces": ["lora"]},
            "table": tables,
            "python": list(workspace.functions),
            "rankers": rankers,
            "objectives": "one metric, or several for their Pareto front, each max or min; "
            "constraints such as 'params_m <= 0.1'",
        },
    )


# -- what the workspace has --------------------------------------------------------------------


def space_path(workspace: Workspace, name: str) -> Path:
    """The file of a defined space."""
    return workspace.inside("spaces", f"{name}.toml")


def defined(workspace: Workspace) -> list[str]:
    """The names of the workspace's own spaces."""
    return sorted(p.stem for p in workspace.folder.glob("spaces/*.toml") if p.stem not in BUILTIN)


def find_space(workspace: Workspace, name: str) -> SearchSpace:
    """A built-in space, or one of the workspace. Raises SpaceError."""
    if name in BUILTIN:
        return builtin(name)
    if name not in defined(workspace):
        raise SpaceError(unknown("space", name, [*BUILTIN, *defined(workspace)]))
    return load_space(space_path(workspace, name))


def tables_of(workspace: Workspace) -> dict[str, Path]:
    """Tables by name: those of the package and those of the workspace."""
    found = {f"{BUILTIN_TABLE}{path.stem}": path for path in sorted(DATA.glob("*.npz"))}
    for path in sorted(workspace.folder.glob("tables/*")):
        if path.suffix in (".npz", ".csv"):
            with contextlib.suppress(ConfigError):  # leave out links to files outside the workspace
                found[path.name] = workspace.inside("tables", path.name)
    return found


def table_metrics(path: Path) -> list[str]:
    """The metrics in a table's card, or a CSV file's columns; empty if it cannot be read."""
    try:
        if path.suffix == ".npz":
            return list(json.loads(path.with_suffix(".json").read_text())["metrics"])
        with open(path, newline="", encoding="utf-8") as file:
            return next(csv.reader(file), [])
    except (OSError, ValueError, KeyError, TypeError):
        return []
