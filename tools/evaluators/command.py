"""The user's own shell command as the evaluator.

It reads one JSON object from its standard input:
    {"ncode": "120", "config": {"width": 64, ...}, "seed": 7, "budget": 1.0}
and writes JSON lines to its standard output: any number of {"step": 1, "value": 0.5}, then one
object with the metrics, the objective among them. Other lines are passed on to the log.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from typing import Any, ClassVar, Literal

from lm_searcher.spaces.errors import EvaluatorError, TrialFailure
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.tools.evaluators.settings import OwnEvaluatorSettings, RunInfo
from lm_searcher.tools.protocols import Evaluation, Metrics, Report


class CommandSettings(OwnEvaluatorSettings):
    """[evaluator] kind = "command": the user's shell command."""

    kind: Literal["command"] = "command"
    command: str | list[str]
    """A line for the shell, or a list of arguments."""

    def make(self, space: SearchSpace, run: RunInfo) -> CommandEvaluator:
        """See EvaluatorSettings."""
        return CommandEvaluator(**self.model_dump(exclude={"kind"}))


class CommandEvaluator:
    """Runs `command` in a shell, or without a shell if `command` is a list of arguments.

    `settings` are keys of CommandSettings. Raises ConfigError.
    """

    budgets: ClassVar = ("budget",)
    direction = "max"
    inline = False

    def __init__(self, command: str | list[str], **settings: Any) -> None:
        checked = CommandSettings(command=command, **settings)
        self.command, self.budget = checked.command, checked.budget
        self.metric, self.deterministic = checked.metric, checked.deterministic

    def identity(self) -> dict[str, Any]:
        """See Evaluator."""
        return {"kind": "command", "command": self.command, "budget": self.budget}

    def prepare(self) -> None:
        """See Evaluator."""
        if not self.command:
            raise EvaluatorError("evaluator: command is empty; give the command to run")

    def evaluate(self, evaluation: Evaluation, report: Report) -> Metrics:
        """See Evaluator. A command that exits with another code than 0 is a failed trial."""
        given = {
            "ncode": evaluation.ncode,
            "config": evaluation.config,
            "seed": evaluation.seed,
            "budget": evaluation.budget.get("budget", self.budget),
        }
        try:
            process = subprocess.Popen(
                self.command,
                shell=isinstance(self.command, str),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                errors="replace",
            )
        except OSError as error:
            raise TrialFailure(f"command does not start: {error}") from None
        with process:
            try:
                metrics, stopped = self._listen(process, json.dumps(given), report)
            except BaseException:
                process.kill()
                raise
            code = process.wait()
        if code and not stopped:
            raise TrialFailure(f"command {_ended(code)}")
        if not metrics:
            raise TrialFailure(
                "command wrote no metrics; it must write a JSON line such as "
                f'{{"{self.metric}": 0.9}}'
            )
        return metrics

    def _listen(
        self, process: subprocess.Popen[str], given: str, report: Report
    ) -> tuple[Metrics, bool]:
        """The metrics that the command writes, and whether the trial was stopped early."""
        assert process.stdin is not None and process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # the command need not read its input
            process.stdin.write(given + "\n")
            process.stdin.flush()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        metrics: Metrics = {}
        for line in process.stdout:
            message = _json_object(line)
            if message is None:
                print(line, end="", file=sys.stderr)
            elif "step" in message and "value" in message:
                step, value = _report_of(message)
                if report(step, value):
                    # Ends the shell only. What the shell has started ends with the trial's process
                    # group; reading on until the pipe is closed would wait for the training.
                    process.terminate()
                    return {self.metric: value}, True
            elif "step" not in message:
                metrics = message
        return metrics, False


def _report_of(message: dict[str, Any]) -> tuple[int, float]:
    try:
        return int(message["step"]), float(message["value"])
    except (TypeError, ValueError):
        raise TrialFailure(
            f"command reported {json.dumps(message)[:100]}; step and value must be numbers"
        ) from None


def _json_object(line: str) -> dict[str, Any] | None:
    if not line.lstrip().startswith("{"):
        return None
    try:
        message = json.loads(line)
    except ValueError:
        return None
    return message if isinstance(message, dict) else None


def _ended(code: int) -> str:
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    if code > 128 and code - 128 in {int(s) for s in signal.Signals}:
        return f"was killed by {signal.Signals(code - 128).name}"
    hint = {126: " (not executable)", 127: " (not found)"}.get(code, "")
    return f"exited with code {code}{hint}"
