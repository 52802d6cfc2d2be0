"""Batches: loss on the answers only; several candidate sets as if each were a sample."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lm_searcher.tools.rankers.lm.finetuning.encode import IGNORED, Branch, Example, collate, encode
from lm_searcher.tools.rankers.lm.finetuning.measure import measure_picks, pick_metrics
from lm_searcher.tools.rankers.lm.finetuning.samples import Samples, Shape
from lm_searcher.tools.rankers.lm.finetuning.subspace_samples import Landscapes, Limits
from lm_searcher.tools.rankers.lm.finetuning.tiny_model import digit_tokenizer, from_scratch
from lm_searcher.tools.rankers.lm.text import answer_ids

TOKENIZER = digit_tokenizer()


def samples(questions: int, seed: int = 0) -> Samples:
    return Samples([Landscapes()], [1.0], Shape(Limits((3, 6)), (5, 30), 10, questions), seed)


def test_labels_are_the_answers() -> None:
    drawn = [samples(3)[i] for i in range(4)]
    batch = collate([encode(TOKENIZER, s, 4096) for s in drawn])
    for row, sample in zip(batch["labels"], drawn, strict=True):
        wanted = [t for q in sample.candidate_sets for t in answer_ids(TOKENIZER, q.answer)]
        assert row[row != IGNORED].tolist() == wanted


@pytest.mark.parametrize("questions", [1, 3])
def test_candidate_sets_of_a_batch_do_not_see_each_other(questions: int) -> None:
    model = from_scratch("tiny", 0, width=32, layers=2, heads=2)[0].eval()
    examples = [encode(TOKENIZER, samples(questions)[i], 4096) for i in range(3)]
    alone = [
        Example([], [Branch([*e.shared, *branch.prompt], branch.answer)])
        for e in examples
        for branch in e.branches
    ]
    with torch.no_grad():
        together = float(model(**collate(examples)).loss)
        losses = [float(model(**collate([one])).loss) for one in alone]
    lengths = [len(one.branches[0].answer) for one in alone]
    assert together == pytest.approx(np.average(losses, weights=lengths), abs=1e-5)


def longest(example: Example) -> int:
    return max(len(example.shared) + len(b.prompt) + len(b.answer) for b in example.branches)


def test_the_worst_trials_are_dropped_beyond_the_cutoff() -> None:
    sample = samples(2)[1]
    whole = encode(TOKENIZER, sample, 4096)
    cutoff = longest(whole) - len(whole.shared) // 2
    cut = encode(TOKENIZER, sample, cutoff)
    assert len(cut.shared) < len(whole.shared) and longest(cut) <= cutoff
    best = len(sample.candidate_sets[0].answer) + 1
    assert list(cut.shared)[:best] == list(whole.shared)[:best], "the best stays"
    assert [b.answer for b in cut.branches] == [b.answer for b in whole.branches]


def test_pick_metrics() -> None:
    values = np.array([3.0, 1.0, 2.0, 0.0])
    assert pick_metrics(values, 0) == (1.0, 1.0, 0.0)
    assert pick_metrics(values, 3) == (0.0, 0.0, 2.0)
    assert pick_metrics(values, 2) == (0.0, pytest.approx(2 / 3), pytest.approx(1 / 1.5))
    assert pick_metrics(np.ones(4), 1) == (1.0, 0.5, 0.0)


def test_random_weights_pick_by_chance() -> None:
    model, tokenizer = from_scratch("tiny", 0, width=32, layers=2, heads=2)
    drawn = [samples(1)[i] for i in range(150)]
    figures = measure_picks(model, tokenizer, drawn, 4096)
    assert figures.samples == 150
    assert 0.4 < figures.percentile < 0.6 and figures.accuracy < 0.25
    assert model.training, "left as it was"
