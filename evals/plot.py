"""Regret curves with bands, as a figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from lm_searcher.spaces.errors import ConfigError


def plot_regret(result: dict[str, Any], path: Path) -> None:
    """Mean regret over seeds with its standard error. Raises ConfigError."""
    try:
        import matplotlib
    except ImportError:
        raise ConfigError("--plot wants matplotlib: pip install 'lm-searcher[eval]'") from None
    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5))
    scale = result["best"] - result["median"]
    for method, row in result["methods"].items():
        regret = (result["best"] - np.array(row["curves"])) / scale
        mean, spread = regret.mean(axis=0), regret.std(axis=0) / np.sqrt(len(regret))
        steps = np.arange(1, len(mean) + 1)
        (line,) = axes.plot(steps, mean, label=method)
        axes.fill_between(steps, mean - spread, mean + spread, color=line.get_color(), alpha=0.2)
    words = "missing hypervolume" if result["objectives"] else "regret (1: the median, 0: the best)"
    axes.set(xlabel="evaluations", ylabel=words, yscale="log")
    axes.set_title(f"{Path(result['table']).name} {result['metric']}, {result['seeds']} seeds")
    axes.legend()
    try:
        figure.savefig(path, dpi=150, bbox_inches="tight")
    except (OSError, ValueError) as error:
        raise ConfigError(f"--plot '{path}': {error}") from None
    finally:
        pyplot.close(figure)
