"""Metrics of a ranking language model: its picks among the candidates of held-out samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lm_searcher.prompts import ncode
from lm_searcher.tools.rankers.lm.finetuning.samples import Sample
from lm_searcher.tools.rankers.lm.likelihood import PromptAnswers, log_likelihoods
from lm_searcher.tools.rankers.lm.text import answer_ids, prompt_ids

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class PickMetrics:
    """Means over held-out samples, one candidate set each."""

    samples: int
    loss: float
    """The negative log-likelihood of the answer, in nats."""
    accuracy: float
    """How often the pick is the best candidate."""
    percentile: float
    """The share of the other candidates that are worse than the pick; 0.5 is chance."""
    regret: float
    """(best - picked) / (best - median of the candidates), at most 2; 1 is about chance."""

    def to_json(self) -> dict[str, float]:
        """The rounded values as plain data."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


def measure_picks(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    samples: Sequence[Sample],
    cutoff: int,
) -> PickMetrics:
    """Pick by likelihood in each sample, as the `lm` ranker does within a prompt.

    Prompts have less than `cutoff` tokens; the last trials of the history are dropped first.
    """
    was_training = model.training
    model.train(False)
    rows = []
    for sample in samples:
        candidate_set = sample.candidate_sets[0]
        history = sample.history
        while True:
            prompt = prompt_ids(tokenizer, ncode.render(history, candidate_set.candidates))
            if len(prompt) < cutoff or not history:
                break
            history = history[: len(history) * 9 // 10]
        answers = [answer_ids(tokenizer, c) for c in candidate_set.candidates]
        (logs,) = log_likelihoods(model, [PromptAnswers(prompt, answers)])
        best = int(np.argmax(candidate_set.values))
        rows.append((-logs[best], *pick_metrics(candidate_set.values, int(np.argmax(logs)))))
    model.train(was_training)
    return PickMetrics(len(rows), *(float(mean) for mean in np.mean(rows, axis=0)))


def pick_metrics(values: NDArray[np.float64], pick: int) -> tuple[float, float, float]:
    """Accuracy, percentile and regret of one pick; see PickMetrics."""
    others = np.delete(values, pick)
    beaten = np.mean((others < values[pick]) + 0.5 * (others == values[pick]))
    best = values.max()
    span = best - np.median(values)
    regret = min(2.0, (best - values[pick]) / span) if span > 0 else 0.0
    return float(values[pick] == best), float(beaten), float(regret)
