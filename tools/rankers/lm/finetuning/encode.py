"""Samples as batches: tokens, labels on the answers only, and attention masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.data import Dataset

from lm_searcher.prompts import ncode
from lm_searcher.prompts.history import best_first
from lm_searcher.tools.rankers.lm.finetuning.samples import Sample
from lm_searcher.tools.rankers.lm.finetuning.training_data import SampleStream
from lm_searcher.tools.rankers.lm.likelihood import common
from lm_searcher.tools.rankers.lm.text import answer_ids, prompt_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100
"""The label of a token without a loss (torch's ignore_index)."""


@dataclass(frozen=True)
class Branch:
    """The rest of a prompt after the shared prefix, and its answer."""

    prompt: Sequence[int]
    answer: Sequence[int]


@dataclass(frozen=True)
class Example:
    """A sample as tokens: the prefix of all its prompts, and a branch for each candidate set."""

    shared: Sequence[int]
    branches: Sequence[Branch]

    def __len__(self) -> int:
        return len(self.shared) + sum(len(b.prompt) + len(b.answer) for b in self.branches)


def encode(tokenizer: PreTrainedTokenizerBase, sample: Sample, cutoff: int) -> Example:
    """Encode a sample; the worst trials are dropped until each prompt fits into `cutoff` tokens."""
    history = best_first(sample.history)
    answers = [answer_ids(tokenizer, q.answer) for q in sample.candidate_sets]
    while True:
        prompts = [
            prompt_ids(tokenizer, ncode.render(history, q.candidates))
            for q in sample.candidate_sets
        ]
        longest = max(len(p) + len(a) for p, a in zip(prompts, answers, strict=True))
        if longest <= cutoff or not history:
            break
        history = history[: min(len(history) - 1, len(history) * cutoff // longest)]
    n = common(prompts)
    branches = [Branch(p[n:], a) for p, a in zip(prompts, answers, strict=True)]
    return Example(prompts[0][:n], branches)


class Encoded(Dataset[Example]):
    """The first `count` samples, encoded on demand."""

    def __init__(
        self, samples: SampleStream, count: int, tokenizer: PreTrainedTokenizerBase, cutoff: int
    ) -> None:
        self.samples, self.count = samples, count
        self.tokenizer, self.cutoff = tokenizer, cutoff

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Example:
        return encode(self.tokenizer, self.samples[index], self.cutoff)


def collate(examples: Sequence[Example], padding: int = 0) -> dict[str, Tensor]:
    """A batch for a causal model, padded on the right.

    A branch attends to the shared prefix and to itself, at the positions that it would have in a
    sequence of its own, so that several candidate sets cost one pass over the history. The
    result has input_ids and labels [b, tokens]; attention_mask [b, tokens] if each sample has
    one branch, else [b, 1, tokens, tokens] with position_ids [b, tokens].
    """
    shape = len(examples), max(map(len, examples))
    ids = torch.full(shape, padding)
    labels = torch.full(shape, IGNORED)
    places = torch.zeros(shape, dtype=torch.long)
    branch = torch.full(shape, -1)  # -1: padding, 0: shared prefix, from 1: branches
    for row, example in enumerate(examples):
        n = len(example.shared)
        ids[row, :n] = torch.tensor(example.shared)
        places[row, :n] = torch.arange(n)
        branch[row, :n] = 0
        at = n
        for number, part in enumerate(example.branches, start=1):
            end = at + len(part.prompt) + len(part.answer)
            ids[row, at:end] = torch.tensor([*part.prompt, *part.answer])
            labels[row, end - len(part.answer) : end] = torch.tensor(part.answer)
            places[row, at:end] = torch.arange(n, n + end - at)
            branch[row, at:end] = number
            at = end
    batch = {"input_ids": ids, "labels": labels}
    if all(len(e.branches) == 1 for e in examples):
        return {**batch, "attention_mask": (branch >= 0).long()}
    # [b, query, key]: a token sees the shared prefix and its own branch, as far as they precede it.
    seen = (branch[:, None, :] == 0) | (branch[:, None, :] == branch[:, :, None])
    mask = seen & torch.ones(shape[1], shape[1], dtype=torch.bool).tril()
    mask |= torch.eye(shape[1], dtype=torch.bool)  # a row of padding must attend to something
    return {**batch, "position_ids": places, "attention_mask": mask[:, None]}
