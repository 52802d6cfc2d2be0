"""The tools by name, and how one is called.

>>> call(Workspace(Path("runs"), budget_trials=50), "list_spaces", {})

`question` says what a call would cost, for a person to answer first; `call` does not ask.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from lm_searcher.agent.toolbox import arguments as a
from lm_searcher.agent.toolbox import inspection, interventions, runs, start
from lm_searcher.agent.toolbox.catalog import (
    define_space,
    describe_space,
    list_evaluators,
    list_spaces,
    overwrites,
)
from lm_searcher.agent.toolbox.result import ToolResult, failure
from lm_searcher.agent.toolbox.workspace import Workspace
from lm_searcher.spaces.errors import UserError, unknown

Cost = Callable[[Workspace, Any], str | None]


def free(workspace: Workspace, args: a.Arguments) -> str | None:
    """The cost of what costs nothing."""
    return None


@dataclass(frozen=True)
class Tool:
    """One tool: what a model reads of it, what it takes, what it does."""

    name: str
    description: str
    arguments: type[a.Arguments]
    function: Callable[[Workspace, Any], ToolResult]
    """Raises UserError, which `call` turns into a result."""
    costs: Cost = free
    """The question to ask a person before the call; None if it costs nothing."""

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON schema of the arguments."""
        return self.arguments.model_json_schema()


_ALL = (
    Tool(
        "list_spaces",
        "The search spaces that there are: built-in ones and those defined in this workspace.",
        a.Nothing,
        list_spaces,
    ),
    Tool(
        "describe_space",
        "One search space: its positions and their options. Digit i of an NCode is the option at "
        "position i, counted from 0 (10 is a, 11 is b, ...).",
        a.SpaceName,
        describe_space,
    ),
    Tool(
        "define_space",
        "Define a search space from positions with options; it is checked, and written as TOML. "
        "Such a space has no builder of models: it goes with a table or a python function.",
        a.DefineSpace,
        define_space,
        overwrites,
    ),
    Tool(
        "list_evaluators",
        "The ways to measure an architecture that start_search accepts: data sets to train on, "
        "tables with their metrics, python functions; and the rankers.",
        a.Nothing,
        list_evaluators,
    ),
    Tool(
        "start_search",
        "Begin a search in the background and return at once: `trials` architectures of a space "
        "are measured, one after the other, and the best confirmed with fresh seeds. It goes on "
        "when the conversation ends. Follow it with status or wait.",
        a.StartSearch,
        start.start_search,
        start.start_costs,
    ),
    Tool(
        "status",
        "How a run stands: starting, running, paused, stopped, interrupted, finished or failed; "
        "trials done, the best so far, time left. Without a run: the latest, the others in short.",
        a.OneRun,
        runs.status,
    ),
    Tool(
        "wait",
        "Wait until a run has ended, at most `seconds`; then its status. Call it again if it is "
        "still running, rather than asking status in a loop.",
        a.Wait,
        runs.wait,
    ),
    Tool(
        "pause",
        "Let the running trial finish, then leave; nothing is lost. resume goes on.",
        a.OneRun,
        runs.pause,
    ),
    Tool(
        "resume",
        "Go on with a paused, stopped, interrupted or failed run exactly where it was; a finished "
        "one with a larger budget in `trials`.",
        a.Resume,
        runs.resume,
        runs.resume_costs,
    ),
    Tool(
        "stop",
        "End a run for good, after its running trial. To go on later, pause instead.",
        a.OneRun,
        runs.stop,
        runs.stop_costs,
    ),
    Tool(
        "best",
        "What a run has found so far: the incumbent with its configuration and, where it was "
        "confirmed, mean and spread over fresh seeds; and the `top` best trials with all metrics. "
        "With several objectives: `top` architectures of the Pareto front.",
        a.Best,
        inspection.best,
    ),
    Tool(
        "explain",
        "Why: which positions mattered, the evidence for each option, every option that memory "
        "or a person pruned or brought back and on what evidence, and why trials failed.",
        a.OneRun,
        inspection.explain,
    ),
    Tool(
        "rank_ncode",
        "Where the run's ranker puts one architecture among all it could pick now; of one that "
        "is measured already, its value and place. Trains nothing.",
        a.OneNCode,
        interventions.rank_ncode,
    ),
    Tool(
        "evaluate_ncode",
        "Measure one architecture as an extra trial of the run: next, if it runs; at once, if it "
        "does not. Wait, then call this again for the value.",
        a.OneNCode,
        interventions.evaluate_ncode,
        interventions.evaluate_costs,
    ),
    Tool(
        "override_next",
        "Make one architecture the next pick of a run that is not finished; it counts as one of "
        "the budget's trials.",
        a.OneNCode,
        interventions.override_next,
    ),
    Tool(
        "prune_option",
        "From now on search no architecture of the run with this option of this position.",
        a.OneOption,
        interventions.prune_option,
    ),
    Tool(
        "restore_option",
        "Search a pruned option of the run again; memory will not prune it anew.",
        a.OneOption,
        interventions.restore_option,
    ),
    Tool(
        "compare_runs",
        "Runs side by side: what they found after as many trials each, and whether they may be "
        "compared at all (same space, objective and evaluator). With several "
        "objectives the hypervolume counts.",
        a.SeveralRuns,
        inspection.compare_runs,
    ),
    Tool(
        "report",
        "Write a run's report, one HTML page with figures, into its folder; gives the path.",
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
"""Those that write nothing."""


def question(workspace: Workspace, name: str, arguments: Mapping[str, Any]) -> str | None:
    """What to ask a person before this call; None if nothing: it is free, or will be an error."""
    try:
        tool, args = _parsed(name, arguments)
        return tool.costs(workspace, args)
    except UserError:
        return None


def call(workspace: Workspace, name: str, arguments: Mapping[str, Any]) -> ToolResult:
    """The tool's result; a mistake is a result as well, with what to mend."""
    try:
        tool, args = _parsed(name, arguments)
        return tool.function(workspace, args)
    except UserError as error:
        return failure(f"{name}: {error}")


def _parsed(name: str, arguments: Mapping[str, Any]) -> tuple[Tool, a.Arguments]:
    """Raises UserError for an unknown tool or arguments that it does not take."""
    if name not in TOOLS:
        raise UserError(unknown("tool", name, TOOLS))
    tool = TOOLS[name]
    try:
        return tool, tool.arguments.model_validate(dict(arguments))
    except ValidationError as error:
        raise UserError("; ".join(_lines(tool, error)[:5])) from None


def _lines(tool: Tool, error: ValidationError) -> list[str]:
    accepted = ", ".join(tool.arguments.model_fields) or "no arguments"
    lines = []
    for entry in error.errors(include_url=False):
        place = ".".join(str(part) for part in entry["loc"])
        message = f"{place}: {entry['msg']}"
        if entry["type"] == "extra_forbidden":
            message = f"unknown argument '{place}' (accepted: {accepted})"
        lines.append(message)
    return lines
