"""From finished runs to training samples: `lm-searcher train-ranker adapt`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lm_searcher.agent.results.result import read_run
from lm_searcher.agent.settings.run_file import checked
from lm_searcher.agent.settings.train_lm import LMFile
from lm_searcher.agent.study.paths import RunFiles
from lm_searcher.spaces.errors import TrainingError
from lm_searcher.spaces.history import History

if TYPE_CHECKING:
    from lm_searcher.tools.rankers.lm.finetuning.settings import LMTrainConfig
    from lm_searcher.tools.rankers.lm.finetuning.training_data import TrainingData


def training_data_of(files: Sequence[RunFiles], config: LMTrainConfig) -> TrainingData:
    """What there is to learn from some runs. Raises StoreError for one that is not there,
    TrainingError for one with too few trials."""
    from lm_searcher.tools.rankers.lm.finetuning.run_histories import RunHistory, RunHistorySamples
    from lm_searcher.tools.rankers.lm.finetuning.training_data import TrainingData

    runs = []
    for place in files:
        result = read_run(place)
        run = RunHistory.of(place.name, History.of(result.space, result.trials, result.sign))
        if run.scored < (least := RunHistory.needed(config.candidates)):
            raise TrainingError(
                f"run '{place.name}' has {run.scored} trials with a value; with "
                f"{config.candidates} candidates adapting takes {least} at least"
            )
        runs.append(run)
    last = RunHistorySamples(runs, config.candidates, config.seed, held_out=True)
    what = "sub-histories of " + ", ".join(f"run {r.name} ({r.scored} trials)" for r in runs)
    samples = RunHistorySamples(runs, config.candidates, config.seed)
    return TrainingData(samples, [last[i] for i in range(config.held_out)], what)


def adapting(runs: Sequence[str], given: Mapping[str, Any]) -> LMTrainConfig:
    """How an adapter is fitted to runs: small steps, since a few runs are easily learnt by heart.

    `given` has base, samples, candidates, out, seed and device; None is the default. Raises
    ConfigError.
    """
    known = {key: value for key, value in given.items() if value is not None}
    out = Path("trained") / ("adapted-" + "-".join(runs))[:100]
    document = {
        "run": {"out": out, "save_every": 50, "evaluate_every": 50}
        | {key: known[key] for key in ("out", "seed", "device") if key in known},
        "model": {"base": known["base"], "adapter": "lora"},
        "data": {
            "samples": known["samples"],
            "candidates": known["candidates"],
            "history": [5, 200],
            "architectures": [200, 200],
            "held_out": 100,
        },
        "optimizer": {"learning_rate": 1e-4, "batch": 4, "accumulation": 1},
    }
    return checked(LMFile, document, "train-ranker adapt").settings()
