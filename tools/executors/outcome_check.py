"""What makes an evaluation's result valid, and the reason that a failed one keeps."""

from __future__ import annotations

import math
import numbers
from typing import Any

from lm_searcher.spaces.errors import TrialFailure, one_line
from lm_searcher.tools.protocols import Metrics


def checked_metrics(result: object, metric: str) -> Metrics:
    """What an evaluator returned, as floats by name; a bare number is `metric`.

    A value that is no number becomes NaN. Raises TrialFailure for a result of another type or
    without any metric, and where `metric` is there but not a finite number. Whether all required
    metrics are there is checked in the controller.
    """
    if isinstance(result, numbers.Real) and not isinstance(result, bool):
        result = {metric: result}
    if not isinstance(result, dict) or not result:
        raise TrialFailure(
            f"the evaluator returned {_shown(result)}; "
            "accepted: a number, or a dict of metric -> number"
        )
    values = {str(name): _number(value) for name, value in result.items()}
    if not math.isfinite(values.get(metric, 0.0)):
        raise TrialFailure(f"'{metric}' is {_shown(result[metric])}, not a finite number")
    return values


def _number(value: Any) -> float:
    """The value as a float; NaN for text and for what does not convert."""
    if isinstance(value, str | bytes):
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _shown(value: object) -> str:
    return f"{repr(value)[:60]} ({type(value).__name__})"


def failure_reason(error: BaseException) -> str:
    """The one line that a failed trial keeps of an exception."""
    text = one_line(error) if str(error).strip() else ""
    if isinstance(error, TrialFailure):
        return text
    if isinstance(error, MemoryError) or "out of memory" in text or "can't allocate" in text:
        return f"out of memory: {text[:200]}" if text else "out of memory"
    if isinstance(error, SystemExit):
        return f"{EXITED} {error.code}"
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__


EXITED, KILLED = "exited with code", "killed by"
"""How the reasons begin of evaluations whose process ended before it returned a result."""

KILLS = ("the worker process was killed", f"{KILLED} SIGKILL", f"{KILLED} signal: Killed")
"""What the reason of a failure contains if somebody else killed the evaluation or what it started:
the kernel does when memory runs out. The last is PyTorch's word for a DataLoader's process."""

DEVICE_FAULTS = (
    "CUDA error",
    "CUDA driver error",
    "CUBLAS_STATUS_",
    "CUDNN_STATUS_",
    "an illegal memory access",
    "device-side assert",
)
"""What the reason of a failure contains after which a process cannot use its GPU any more."""


def is_lost(reason: str) -> bool:
    """Whether the place was lost, which says nothing about the architecture."""
    return any(text in reason for text in KILLS)


def is_crash(reason: str) -> bool:
    """Whether a failure may be the fault of the GPU instead of the evaluation that met it: not
    of exceptions, lack of memory and time limits."""
    if reason.startswith("out of memory"):
        return False
    return reason.startswith((EXITED, KILLED)) or any(text in reason for text in DEVICE_FAULTS)
