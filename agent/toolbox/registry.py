"""The tools by name, and how one is called.

>>> call(Workspace(Path("runs"), budget_trials=50), "list_spaces", {})

`question` gives what a user must confirm before the call; `call` itself asks nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lm_searcher.agent.loop.tool_calls import EVALUATE
from lm_searcher.agent.toolbox import arguments as a
from lm_searcher.agent.toolbox import (
    comparison,
    explanation,
    inspection,
    interventions,
    ranking,
    runs,
    start,
)
from lm_searcher.agent.toolbox.catalog import (
    define_space,
    describe_space,
    list_evaluators,
    list_spaces,
    overwrites,
)
from lm_searcher.agent.toolbox.result import ToolResult, failure
from lm_searcher.agent.toolbox.tool import Tool
from lm_searcher.agent.toolbox.workspace import Workspace
from lm_searcher.spaces.errors import UserError, unknown

_ALL = (
    Tool(
        "list_spaces",
        "List the search spaces: built-in ones and those defined in this workspace.",
        a.Nothing,
        list_spaces,
    ),
    Tool(
        "describe_space",
        "Show one search space: its positions and their options. Digit i of an NCode is the "
        "option at position i, counted from 0 (10 is a, 11 is b, ...).",
        a.SpaceName,
        describe_space,
    ),
    Tool(
        "define_space",
        "Define a search space from positions with options; it is checked and written as TOML. "
        "No models can be built from it: use it with a table or a python function.",
        a.DefineSpace,
        define_space,
        overwrites,
    ),
    Tool(
        "list_evaluators",
        "List what start_search accepts as evaluator (data sets to train on, tables with their "
        "metrics, python functions) and as ranker.",
        a.Nothing,
        list_evaluators,
    ),
    Tool(
        "start_search",
        "Start a search in the background and return at once: `trials` architectures of a space "
        "are measured one after the other, and the best are confirmed with fresh seeds. The "
        "search continues when the conversation ends. Check it with status or wait.",
        a.StartSearch,
        start.start_search,
        start.start_costs,
    ),
    Tool(
        "status",
        "The state of a run: starting, running, paused, stopped, interrupted, finished or failed; "
        "trials done, the best so far, time left. Without a run: the latest one, and the other "
        "runs in short.",
        a.OneRun,
        runs.status,
    ),
    Tool(
        "wait",
        "Wait until a run has ended, but at most `seconds`, then return its status. If the run is "
        "still running, call wait again instead of calling status in a loop.",
        a.Wait,
        runs.wait,
    ),
    Tool(
        "pause",
        "Pause a run after its running trial; nothing is lost. Continue it with resume.",
        a.OneRun,
        runs.pause,
    ),
    Tool(
        "resume",
        "Continue a paused, stopped, interrupted or failed run exactly where it ended. A finished "
        "run needs a larger budget in `trials`.",
        a.Resume,
        runs.resume,
        runs.resume_costs,
    ),
    Tool(
        "stop",
        "End a run for good after its running trial. To continue it later, use pause instead.",
        a.OneRun,
        runs.stop,
        runs.stop_costs,
    ),
    Tool(
        "best",
        "What a run has found so far: the incumbent with its configuration and, if it was "
        "confirmed, mean and spread over fresh seeds; and the `top` best trials with all metrics. "
        "With several objectives: `top` architectures of the Pareto front.",
        a.Best,
        inspection.best,
    ),
    Tool(
        "explain",
        "Why the run chose as it did: which positions mattered, the evidence for each option, "
        "every option that memory or a user pruned or restored with its evidence, and why trials "
        "failed.",
        a.OneRun,
        explanation.explain,
    ),
    Tool(
        "rank_ncode",
        "The place that the run's ranker gives one architecture among all that it could pick now, "
        "and its next picks; for a measured architecture its value and place. Trains nothing.",
        a.OneNCode,
        ranking.rank_ncode,
    ),
    Tool(
        EVALUATE,
        "Measure one architecture as an extra trial of the run: as its next trial if the run is "
        "running, else at once. Call wait, then call this again for the value.",
        a.EvaluateInRun,
        interventions.evaluate_ncode,
        interventions.evaluate_costs,
    ),
    Tool(
        "override_next",
        "Make one architecture the next pick of a run that is not finished. It counts as one of "
        "the trials of the budget.",
        a.OneNCode,
        interventions.override_next,
    ),
    Tool(
        "prune_option",
        "Exclude all architectures with this option at this position from the rest of the run.",
        a.OneOption,
        interventions.prune_option,
    ),
    Tool(
        "restore_option",
        "Search a pruned option of the run again; memory will not prune it anymore.",
        a.OneOption,
        interventions.restore_option,
    ),
    Tool(
        "compare_runs",
        "Compare runs: what each found after the same number of trials, and whether the "
        "comparison is fair (same space, objective and evaluator). With several objectives the "
        "hypervolumes are compared.",
        a.SeveralRuns,
        comparison.compare_runs,
    ),
    Tool(
        "report",
        "Write a run's report, one HTML page with figures, into its folder; returns the path.",
        a.OneRun,
        inspection.report,
    ),
)

TOOLS: dict[str, Tool] = {tool.name: tool for tool in _ALL}

READING = (
    "list_spaces",
    "describe_space",
    "list_evaluators",
    "status",
    "wait",
    "best",
    "explain",
    "rank_ncode",
    "compare_runs",
)
"""The tools that change nothing."""


def question(workspace: Workspace, name: str, arguments: Mapping[str, Any]) -> str | None:
    """What a user must confirm before this call; None if the call is free or will fail."""
    try:
        tool = _tool(name)
        return tool.costs(workspace, tool.parse(arguments))
    except UserError:
        return None


def call(workspace: Workspace, name: str, arguments: Mapping[str, Any]) -> ToolResult:
    """The tool's result. A user's or a model's mistake is a result too, with `error` set."""
    try:
        tool = _tool(name)
        return tool.function(workspace, tool.parse(arguments))
    except UserError as error:
        return failure(f"{name}: {error}")


def _tool(name: str) -> Tool:
    if name not in TOOLS:
        raise UserError(unknown("tool", name, TOOLS))
    return TOOLS[name]
