"""The tool that starts a search: what was asked for becomes a run file, checked."""

from __future__ import annotations

import re
from typing import Any

from lm_searcher.agent.settings import toml
from lm_searcher.agent.settings.build import from_run_file, make_proposer, objective_set_of
from lm_searcher.agent.settings.run_file import RunFile, checked
from lm_searcher.agent.study.paths import RunFiles
from lm_searcher.agent.toolbox import processes
from lm_searcher.agent.toolbox.arguments import StartSearch
from lm_searcher.agent.toolbox.catalog import EMBEDDED, find_space, space_path, tables_of
from lm_searcher.agent.toolbox.result import ToolResult
from lm_searcher.agent.toolbox.workspace import RUN_FILE, Workspace
from lm_searcher.spaces.builtin import BUILTIN
from lm_searcher.spaces.errors import ConfigError, EvaluatorError, SpaceError, unknown
from lm_searcher.tools.rankers import RANKERS


def start_search(workspace: Workspace, args: StartSearch) -> ToolResult:
    """Write the run file, checked, and begin the run in the background."""
    files, document = plan(workspace, args)
    toml.write_text(files.folder / RUN_FILE, toml.dumps(document))
    processes.start(files)
    workspace.commit(files.name, 0, args.trials)
    workspace.latest = files.name
    space = args.space or args.table
    summary = f"started {files.name}: {args.trials} trials of {space}; ask status, or wait"
    return ToolResult(summary, {"run": files.name, "state": "starting", "run_file": document})


def start_costs(workspace: Workspace, args: StartSearch) -> str | None:
    """A search beyond the budget; the question shows all of what would run."""
    files, document = plan(workspace, args)
    beyond = workspace.over_budget(workspace.uncounted(files.name, 0, args.trials))
    if beyond is None:
        return None
    return f"Start the search '{files.name}'? {beyond}.\n{toml.dumps(document)}"


def plan(workspace: Workspace, args: StartSearch) -> tuple[RunFiles, dict[str, Any]]:
    """Where the run will lie, and its run file, checked. Raises UserError."""
    if args.objectives and (args.metric or args.direction):
        raise ConfigError("metric and objectives are both given; give one of them")
    document: dict[str, Any] = {
        "space": _space(workspace, args),
        "evaluator": _evaluator(workspace, args),
        "objective": {"metric": args.metric, "direction": args.direction},
        "ranker": {"name": _ranker(workspace, args)},
    }
    files = workspace.files_of(args.name or _made_up(workspace, args))
    if files.folder.exists():
        raise ConfigError(f"run '{files.name}' exists: resume it, or choose another name")
    document |= {
        "budget": args.model_dump(include={"trials", "hours", "target", "patience"}),
        "executor": {"workers": args.workers},
        "run": {"name": files.name, "seed": args.seed, "folder": str(workspace.folder)},
    }
    document = {
        name: kept
        for name, section in document.items()
        if (kept := {k: v for k, v in section.items() if v is not None})
    }
    if args.objectives:
        document["objectives"] = [entry.model_dump() for entry in args.objectives]
    if args.constraints:
        document["constraints"] = args.constraints
    run_file = checked(RunFile, document, "start_search")
    space, evaluator = from_run_file(run_file)
    objectives = objective_set_of(run_file, evaluator)
    if args.evaluator == "train" and space.builder is None:
        raise EvaluatorError(
            f"space '{space.name}' has no builder of models to train; "
            "take nb201, or evaluator table or python"
        )
    if args.evaluator == "table":
        evaluator.prepare()
    make_proposer(space, evaluator, objectives, run_file.ranker.pool)  # constraints leave something
    return files, document


def _made_up(workspace: Workspace, args: StartSearch) -> str:
    stem = args.space or (args.table or "run").removeprefix("builtin:").split(".")[0]
    stem = re.sub(r"[^A-Za-z0-9_-]", "-", stem).lstrip("_-")[:80] or "run"
    numbers = range(1, 10**6)
    return next(n for i in numbers if not (workspace.folder / (n := f"{stem}-{i}")).exists())


def _space(workspace: Workspace, args: StartSearch) -> dict[str, Any]:
    if args.space is None:
        if args.evaluator != "table":
            raise SpaceError("space is missing; see list_spaces")
        return {}
    find_space(workspace, args.space)
    if args.space in BUILTIN:
        return {"name": args.space, **args.space_settings}
    if args.space_settings:
        raise SpaceError(f"space '{args.space}' takes no space_settings")
    return {"path": str(space_path(workspace, args.space))}


def _evaluator(workspace: Workspace, args: StartSearch) -> dict[str, Any]:
    wanted = {"train": "dataset", "table": "table", "python": "function", "lora": "task"}
    for kind, key in wanted.items():
        if kind != args.evaluator and key in args.model_fields_set and getattr(args, key):
            raise ConfigError(f"{key} goes with evaluator '{kind}', not '{args.evaluator}'")
    if args.evaluator == "train":
        if args.dataset not in EMBEDDED and workspace.data is None:
            accepted = ", ".join(EMBEDDED)
            raise ConfigError(f"{args.dataset} is not at hand here; accepted: {accepted}")
        folder = None if args.dataset in EMBEDDED else str(workspace.data)
        return {"kind": "train", "dataset": args.dataset, "folder": folder, "epochs": args.epochs}
    if args.evaluator == "lora":
        return {"kind": "lora", "task": args.task or "language", "epochs": args.epochs}
    if args.epochs is not None:
        raise ConfigError(f"epochs goes with evaluator 'train' or 'lora', not '{args.evaluator}'")
    if args.evaluator == "table":
        tables = tables_of(workspace)
        if args.table not in tables:
            raise ConfigError(unknown("table", args.table or "", tables))
        if _metric(args) is None:
            raise ConfigError("metric is missing; list_evaluators has the table's metrics")
        return {
            "kind": "table",
            "path": str(tables[args.table]),
            "metric": _metric(args),
            "known": args.known or None,
        }
    if args.function not in workspace.functions:
        raise ConfigError(
            unknown("python function", args.function or "", workspace.functions)
            + "; a person lists them when the workspace is opened"
        )
    return {"kind": "python", "function": args.function, "metric": _metric(args)}


def _metric(args: StartSearch) -> str | None:
    return args.objectives[0].metric if args.objectives else args.metric


def _ranker(workspace: Workspace, args: StartSearch) -> str | None:
    if args.ranker is None or args.ranker in workspace.rankers or args.ranker in RANKERS:
        return args.ranker
    raise ConfigError(unknown("ranker", args.ranker, [*RANKERS, *workspace.rankers]))
