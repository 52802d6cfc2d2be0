"""Pruned subspaces, and the samples drawn from them."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from lm_searcher.spaces.errors import TrainingError
from lm_searcher.spaces.history import History
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.spaces.subspace import Subspace
from lm_searcher.spaces.tables import Table
from lm_searcher.tools.rankers.lm.finetuning.run_histories import RunHistory, RunHistorySamples
from lm_searcher.tools.rankers.lm.finetuning.samples import Samples, Shape, held_out
from lm_searcher.tools.rankers.lm.finetuning.settings import LMTrainConfig
from lm_searcher.tools.rankers.lm.finetuning.subspace_samples import (
    Landscapes,
    Limits,
    TableRows,
    distinct,
    pruned,
)
from lm_searcher.tools.rankers.lm.finetuning.training_data import training_data_of

SPACE = SearchSpace.of("cell", {f"p{i}": list("abcde") for i in range(6)})
CODES = SPACE.enumerate()
EFFECTS = np.random.default_rng(7).normal(size=(6, 5))
VALUES = EFFECTS[np.arange(6), CODES].sum(axis=1)
TABLE = TableRows(Table(SPACE, CODES, {"acc": VALUES}, {"acc": "max"}), "acc", 1.0)
SHAPE = Shape(Limits((2, 6)), (20, 60), 10, 3)


def key(sample: object) -> str:
    return repr(sample)


def test_half_of_positions_and_options_are_pruned() -> None:
    rng = np.random.default_rng(0)
    subspaces = [pruned(SPACE, rng) for _ in range(2000)]
    opened = np.mean([[len(kept) > 1 for kept in s.allowed] for s in subspaces])
    # a position stays open if it is not pruned and two of its five options or more are left
    assert opened == pytest.approx(0.5 * (1 - 6 / 32), abs=0.02)
    sizes = [len(kept) for s in subspaces for kept in s.allowed if len(kept) > 1]
    assert 2.6 < np.mean(sizes) < 3.0


@pytest.mark.parametrize("allowed", [("01234",) * 6, ("024", "1", "34", "0", "01", "23")])
def test_distinct_architectures_of_a_subspace(allowed: tuple[str, ...]) -> None:
    subspace = Subspace(SPACE, allowed)
    for n in (1, 20, 10**6):
        codes = distinct(subspace, n, np.random.default_rng(1))
        assert len(codes) == len(np.unique(codes, axis=0)) == min(n, subspace.size)
        assert subspace.contains(codes).all()


def test_distinct_architectures_of_a_large_space() -> None:
    space = SearchSpace.of("large", {f"p{i}": list(range(8)) for i in range(20)})
    codes = distinct(Subspace.full(space), 150, np.random.default_rng(1))
    assert codes.shape == (150, 20) and len(np.unique(codes, axis=0)) == 150


def test_a_sample_of_a_table_is_renumbered_and_true() -> None:
    for seed in range(20):
        universe = TABLE.draw(Limits((2, 6)), np.random.default_rng(seed))
        assert 100 <= len(universe.ncodes) <= 200 and len(set(universe.ncodes)) == len(
            universe.ncodes
        )
        digits = [sorted(set(column)) for column in zip(*universe.ncodes, strict=True)]
        assert all(d == list("01234"[: len(d)]) and len(d) > 1 for d in digits)
        assert np.array_equal(universe.truth, universe.measured)
        assert np.isin(universe.truth.round(9), VALUES.round(9)).all()


def test_the_sign_turns_if_lower_is_better_and_missing_rows_are_not_used() -> None:
    values = np.where(np.arange(len(CODES)) % 3 == 0, np.nan, VALUES)
    rows = TableRows(Table(SPACE, CODES, {"loss": values}, {}), "loss", -1.0)
    universe = rows.draw(Limits((2, 6), architectures=(50, 60)), np.random.default_rng(0))
    assert np.isin((-universe.truth).round(9), values.round(9)).all()


def test_a_table_without_such_a_subspace() -> None:
    with pytest.raises(TrainingError, match="table 'cell' has no subspace of 7 to 9 open"):
        TABLE.draw(Limits((7, 9)), np.random.default_rng(0))


@pytest.mark.parametrize("source", [Landscapes(), TABLE], ids=["landscapes", "table"])
def test_samples_keep_to_their_shape(source: Landscapes | TableRows) -> None:
    samples = Samples([source], [1.0], SHAPE, seed=3)
    for i in range(30):
        sample = samples[i]
        codes = [code for code, _ in sample.history]
        assert 20 <= len(codes) <= 60 and len(set(codes)) == len(codes)
        assert len(sample.candidate_sets) == 3
        for candidate_set in sample.candidate_sets:
            assert len(set(candidate_set.candidates)) == 10
            assert not set(candidate_set.candidates) & set(codes)
            best = candidate_set.candidates[int(np.argmax(candidate_set.values))]
            assert (
                candidate_set.answer == best
                and np.sum(candidate_set.values == candidate_set.values.max()) == 1
            )
            assert {len(c) for c in (*codes, *candidate_set.candidates)} == {len(best)}


def test_samples_of_a_seed_are_reproducible_and_distinct() -> None:
    samples = Samples([Landscapes(), TABLE], [0.5, 0.5], SHAPE, seed=3)
    again = Samples([Landscapes(), TABLE], [0.5, 0.5], SHAPE, seed=3)
    drawn = [key(samples[i]) for i in range(60)]
    assert [key(again[i]) for i in reversed(range(60))] == drawn[::-1]
    assert len(set(drawn)) == 60
    assert key(replace(samples, seed=4)[0]) not in drawn


def test_subspaces_of_the_held_out_set_are_refused() -> None:
    space = SearchSpace.of("few", {f"p{i}": list("abc") for i in range(4)})  # few subspaces
    table = Table(space, space.enumerate(), {"acc": np.arange(81.0)}, {})
    shape = Shape(Limits((1, 4), architectures=(9, 12)), (3, 5), 4)
    samples = Samples([TableRows(table, "acc", 1.0)], [1.0], shape, seed=3)
    validation = held_out(samples, 10)
    keys = frozenset(sample.key for sample in validation)
    assert any(samples[i].key in keys for i in range(300)), "it would leak"
    guarded = replace(samples, refused=keys)
    assert not any(guarded[i].key in keys for i in range(300))
    assert all(len(sample.candidate_sets) == 1 for sample in validation)


def test_training_refuses_held_out_subspaces() -> None:
    config = LMTrainConfig(from_scratch="tiny", held_out=20, positions=(4, 8))
    data = training_data_of(config)
    assert isinstance(data.samples, Samples)
    assert data.samples.refused == {sample.key for sample in data.held_out}
    assert data.description == "pruned subspaces of synthetic landscapes"


def run(n: int = 60) -> RunHistory:
    codes = CODES[np.random.default_rng(0).permutation(len(CODES))[:n]]
    scores = np.where(np.arange(n) % 10 == 3, np.nan, np.arange(n, dtype=float))
    return RunHistory.of("r", History(codes, scores, np.isnan(scores), np.zeros(n, bool)))


def test_candidates_are_later_trials_of_the_run() -> None:
    history_of_run = run()
    early = history_of_run.split(10)
    place = {code: i for i, code in enumerate(history_of_run.codes)}
    training, last = (
        RunHistorySamples([history_of_run], 10, 0),
        RunHistorySamples([history_of_run], 10, 0, held_out=True),
    )
    for i, stream in itertools.product(range(40), (training, last)):
        sample = stream[i]
        known = [place[code] for code, _ in sample.history]
        asked = [place[code] for code in sample.candidate_sets[0].candidates]
        assert max(known) < min(asked) and len(known) >= RunHistory.MIN_HISTORY
        assert all((s is None) == (place[c] % 10 == 3) for c, s in sample.history)
        assert (min(asked) >= early) if stream is last else (max(asked) < early)
        assert sample.candidate_sets[0].answer == history_of_run.codes[max(asked)]
    assert len({key(training[i]) for i in range(40)}) == 40


def test_a_run_without_differences_is_refused() -> None:
    history_of_run = replace(run(), scores=np.ones(60))
    with pytest.raises(TrainingError, match="trials of r do not differ"):
        RunHistorySamples([history_of_run], 10, 0)[0]


def test_samples_grow_from_two_candidates_to_their_full_size() -> None:
    shape = Shape(Limits((4, 8)), (20, 50), 10)
    samples = Samples([Landscapes()], [1.0], shape, seed=3, ramp=100)
    sizes = [len(samples[i].candidate_sets[0].candidates) for i in (0, 25, 50, 99, 100, 500)]
    assert sizes == [2, 4, 6, 10, 10, 10]
    assert len(samples[0].history) == 2
    assert 2 <= len(samples[50].history) <= 26
    assert all(20 <= len(samples[i].history) <= 50 for i in range(100, 110))
    whole = Samples([Landscapes()], [1.0], shape, seed=3)
    assert samples[100].key == whole[100].key and shape.at(1.0) == shape
