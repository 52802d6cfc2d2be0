"""Pre-training of the in-context ranker on synthetic landscapes: `lm-searcher train-ranker
incontext`.

Worker processes generate the batches; nothing is stored. A checkpoint is written every few
minutes, and the same command continues from it. Validation measures the regret of the pick among
256 candidates on a fixed set of held-out tasks. The averaged weights are saved for `load_model`.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from lm_searcher.spaces.errors import TrainingError
from lm_searcher.tools.rankers.incontext.pretraining.checkpoint import STATE, training_lock
from lm_searcher.tools.rankers.incontext.pretraining.settings import TrainConfig
from lm_searcher.tools.rankers.incontext.pretraining.training_run import (
    Pretraining,
    PretrainingProgress,
)

OBSERVE_EVERY = 0.5
"""Seconds between two calls of `observe`."""


def pretrain(
    config: TrainConfig,
    command: str = "",
    observe: Callable[[PretrainingProgress], None] = lambda progress: None,
    stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Train until the time is spent, and write the weights; or until `stop` returns True.

    Returns whether the training has finished. If not, a checkpoint is written, and another call
    continues. `command` is the command in the model card. Raises TrainingError.
    """
    if config.device not in (accepted := _devices()):
        raise TrainingError(f"no device '{config.device}' here (accepted: {', '.join(accepted)})")
    torch.set_num_threads(config.threads)
    with training_lock(config.out):
        if (weights := config.out / "weights").exists() and not (config.out / STATE).exists():
            raise TrainingError(
                f"'{weights}' is there, and no checkpoint that it came from: move it away, or "
                "choose another --out"
            )
        run = Pretraining(config)
        if run.left:
            _train(run, observe, stop)
        if run.left:
            return False
        last = run.validate()
        observe(last)
        assert last.regret is not None
        run.write_weights(command, last.regret)
        return True


def _train(
    run: Pretraining,
    observe: Callable[[PretrainingProgress], None],
    stop: Callable[[], bool],
) -> None:
    """Steps until the time is spent or `stop` returns True, with checkpoints and a last one."""
    config, episodes = run.config, run.episodes()
    before = saved = validated = observed = time.monotonic()
    while run.left and not stop():
        run.learn(next(episodes))
        now = time.monotonic()
        run.seconds, before = run.seconds + now - before, now
        if now - observed > OBSERVE_EVERY:
            observe(run.progress())
            observed = now
        if run.left and now - validated > config.validate_every:
            observe(run.validate())
            validated = before = time.monotonic()  # validation does not count as training
        if now - saved > config.save_every:
            run.save()
            saved = now
    run.save()


def _devices() -> list[str]:
    if not torch.cuda.is_available():
        return ["cpu"]
    return ["cpu", "cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
