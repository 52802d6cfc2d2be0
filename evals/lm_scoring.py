"""The speed-up by the shared key-value cache: candidates scored with it, and in separate passes.

    python -m lm_searcher.evals.lm_scoring [--model DIR] [--candidates 256] [--history 200]

Both are timed alternately in one run on the same prompts. The default is the `tiny` model with
random weights: its passes take as long as those of a trained one. Prints one JSON document for each
kind of prompt: all candidates after the history only, and the paper's prompts, which list ten.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lm_searcher.prompts import ncode
from lm_searcher.tools.llm.huggingface import LoadedModel, load
from lm_searcher.tools.rankers.lm.finetuning.tiny_model import from_scratch
from lm_searcher.tools.rankers.lm.likelihood import PromptAnswers, log_likelihoods, separately
from lm_searcher.tools.rankers.lm.text import answer_ids, prompt_ids

DIGITS = 6


def questions(
    loaded: LoadedModel, history: int, candidates: int, listed: int
) -> list[PromptAnswers]:
    """Prompts with a history that list `listed` of the candidates, or none if it is 0."""
    rng = np.random.default_rng(0)
    drawn = rng.permutation(5**DIGITS)[: history + candidates]
    codes = [np.base_repr(n, 5).zfill(DIGITS) for n in drawn]
    entries = list(zip(codes[:history], rng.random(history).tolist(), strict=True))
    pool = codes[history:]
    groups = [pool[i : i + listed] for i in range(0, len(pool), listed)] if listed else [pool]
    return [
        PromptAnswers(
            prompt_ids(loaded.tokenizer, ncode.render(entries, group if listed else [])),
            [answer_ids(loaded.tokenizer, code) for code in group],
        )
        for group in groups
    ]


def seconds(score: Callable[[], list[list[float]]]) -> tuple[float, list[float]]:
    """The wall-clock time, and the scores."""
    began = time.perf_counter()
    found = score()
    return time.perf_counter() - began, [x for group in found for x in group]


def compare(loaded: LoadedModel, prompts: Sequence[PromptAnswers], repeats: int) -> dict[str, Any]:
    """Time both alternately; the minimum of each counts, against other load on the machine."""
    shared, separate = [], []
    for _ in range(repeats):
        shared.append(seconds(lambda: log_likelihoods(loaded.model, prompts)))
        separate.append(seconds(lambda: separately(loaded.model, prompts)))
    fast, slow = min(t for t, _ in shared), min(t for t, _ in separate)
    gap = np.abs(np.subtract(shared[0][1], separate[0][1])).max()
    return {
        "candidates": sum(len(q.answers) for q in prompts),
        "prompts": len(prompts),
        "prompt_tokens": len(prompts[0].prompt),
        "shared_s": round(fast, 3),
        "separate_s": round(slow, 3),
        "times_faster": round(slow / fast, 1),
        "largest_difference": float(f"{gap:.1e}"),
    }


def main() -> None:
    """Measure and print JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", help="a directory or an id; default: tiny, random weights")
    parser.add_argument("--candidates", type=int, default=256)
    parser.add_argument("--history", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    if given.model:
        loaded = load(given.model)
    else:
        model, tokenizer = from_scratch("tiny")
        model.train(False)
        loaded = LoadedModel("tiny", model, tokenizer, tokenizer.model_max_length)
    for listed in (0, 10):
        prompts = questions(loaded, given.history, given.candidates, listed)
        print(json.dumps({"listed": listed, **compare(loaded, prompts, given.repeats)}), flush=True)


if __name__ == "__main__":
    main()
