"""The tool that explains a run: which positions and options mattered."""

from __future__ import annotations

from typing import Any

import numpy as np

from lm_searcher.agent.loop.memory import Evidence, outcome_ranks
from lm_searcher.agent.results.result import Result
from lm_searcher.agent.results.summary import failure_lines
from lm_searcher.agent.toolbox.arguments import OneRun
from lm_searcher.agent.toolbox.inspection import load_run
from lm_searcher.agent.toolbox.result import ToolResult
from lm_searcher.agent.toolbox.workspace import Workspace

WIDTH = 2.5
"""Half the width of an option's interval in standard errors; memory's default."""


def explain(workspace: Workspace, args: OneRun) -> ToolResult:
    """Which positions mattered, the evidence for each option, and every decision."""
    _, result = load_run(workspace, args.run)
    positions = effects(result)
    if not positions:
        return ToolResult(f"{result.run}: no trial has finished yet", {"run": result.run})
    first = positions[0]
    good = first["options"][0]
    summary = (
        f"{result.run}: {first['position']} mattered most "
        f"({first['share']:.0%} of the spread of ranks), best with {good['choice']}; "
        f"{len(result.decisions)} decisions about options, "
        f"{result.subspace.size:,} of {result.space.size:,} architectures still searched"
    )
    refused = [v for k, v in sorted(result.attributes.items()) if _refused(v)]
    return ToolResult(
        summary,
        {
            "run": result.run,
            "trials": sum(t.state.finished for t in result.trials),
            "reading": "mean_rank: mean outcome rank of the trials with the option, 0 worst to 1 "
            "best, with an interval of 2.5 standard errors; few trials are weak evidence",
            "positions": positions,
            "decisions": result.decisions,
            "refused_requests": refused,
            "failures": failure_lines(result),
        },
    )


def _refused(value: object) -> bool:
    return isinstance(value, dict) and "refused" in value


def effects(result: Result) -> list[dict[str, Any]]:
    """Per position its share of the variance of outcome ranks, and its tried options, best first.

    The position with the largest share comes first. Empty before a trial has finished.
    """
    history = result.objectives.history(result.space, result.trials)
    finished = np.flatnonzero(~history.pending)
    if not len(finished):
        return []
    table = Evidence.of(history, int(result.space.cardinalities.max()), WIDTH)
    ranks = outcome_ranks(history, finished)
    total = float(np.sum((ranks - ranks.mean()) ** 2))
    rows = []
    for place, position in enumerate(result.space.positions):
        tried = np.flatnonzero(table.trials[place])
        between = float(
            np.sum(table.trials[place, tried] * (table.mean[place, tried] - ranks.mean()) ** 2)
        )
        order = tried[np.argsort(-table.mean[place, tried], kind="stable")]
        options = [
            {
                "choice": position.choices[o],
                "trials": int(table.trials[place, o]),
                "mean_rank": round(float(table.mean[place, o]), 3),
                "interval": [
                    round(float(table.lower[place, o]), 3),
                    round(float(table.upper[place, o]), 3),
                ],
                "searched": bool(result.subspace.mask[place, o]),
            }
            for o in order
        ]
        untried = [c for o, c in enumerate(position.choices) if o not in tried]
        share = round(_adjusted(between / total, len(finished), len(tried)), 3) if total else 0.0
        rows.append(
            {"position": position.name, "share": share, "options": options, "untried": untried}
        )
    return sorted(rows, key=lambda row: -row["share"])


def _adjusted(share: float, trials: int, options: int) -> float:
    """The adjusted R squared of one position; 0 with too few trials."""
    if trials <= options:
        return 0.0
    return max(0.0, 1 - (1 - share) * (trials - 1) / (trials - options))
