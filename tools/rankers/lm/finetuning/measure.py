"""What a ranking language model is judged by: its pick among the candidates of held-out samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lm_searcher.prompts import ncode
from lm_searcher.tools.rankers.lm.finetuning.samples import Sample
from lm_searcher.tools.rankers.lm.likelihood import Question, log_likelihoods
from lm_searcher.tools.rankers.lm.text import answer_ids, prompt_ids

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Figures:
    """Means over held-out samples, one question each."""

    samples: int
    loss: float
    """Of the answer, in nats."""
    accuracy: float
    """How often the pick is the best candidate."""
    percentile: float
    """The share of the other candidates that are worse than the pick; 0.5 is chance."""
    regret: float
    """(best - picked) / (best - median of the candidates), 2 at most; 1 is about chance."""

    def to_json(self) -> dict[str, float]:
        """Rounded, as plain data."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


def measure(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    samples: Sequence[Sample],
    cutoff: int,
) -> Figures:
    """Picks by likelihood, as the `lm` ranker does within a prompt."""
    was_training = model.training
    model.train(False)
    rows = []
    for sample in samples:
        question = sample.questions[0]
        history = sample.history
        while True:
            prompt = prompt_ids(tokenizer, ncode.render(history, question.candidates))
            if len(prompt) < cutoff or not history:
                break
            history = history[: len(history) * 9 // 10]
        answers = [answer_ids(tokenizer, c) for c in question.candidates]
        (logs,) = log_likelihoods(model, [Question(prompt, answers)])
        best = int(np.argmax(question.values))
        rows.append((-logs[best], *judged(question.values, int(np.argmax(logs)))))
    model.train(was_training)
    return Figures(len(rows), *(float(mean) for mean in np.mean(rows, axis=0)))


def judged(values: NDArray[np.float64], pick: int) -> tuple[float, float, float]:
    """Whether the pick is the best, the share of the others it beats, and its regret."""
    others = np.delete(values, pick)
    beaten = np.mean((others < values[pick]) + 0.5 * (others == values[pick]))
    best = values.max()
    span = best - np.median(values)
    regret = min(2.0, (best - values[pick]) / span) if span > 0 else 0.0
    return float(values[pick] == best), float(beaten), float(regret)
