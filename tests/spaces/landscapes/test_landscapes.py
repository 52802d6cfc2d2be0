"""Synthetic landscapes: seeded, finite, vectorised, and what each says it is."""

from __future__ import annotations

import numpy as np
import pytest

from lm_searcher.spaces.landscapes.graph_landscapes import Conditional
from lm_searcher.spaces.landscapes.landscapes import Additive, Pairwise
from lm_searcher.spaces.landscapes.option_effects import ordered_effect
from lm_searcher.spaces.landscapes.region_landscapes import HiddenOptimum, Regions
from lm_searcher.spaces.landscapes.space_shape import SpaceShape, random_shape
from lm_searcher.spaces.landscapes.tasks import KINDS, Warp, random_task
from lm_searcher.spaces.space import SearchSpace


def cell(positions: int = 6, options: int = 5) -> SpaceShape:
    return SpaceShape(
        np.full(positions, options), np.zeros(positions, bool), np.zeros(positions, np.int64)
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_each_kind_is_seeded_finite_and_row_by_row(name: str) -> None:
    for seed in range(12):
        rng = np.random.default_rng(seed)
        shape = random_shape(rng, min_positions=3)
        codes = shape.sample(60, rng)
        first = KINDS[name][0].make(shape, np.random.default_rng(seed))(codes)
        again = KINDS[name][0].make(shape, np.random.default_rng(seed))
        assert first.shape == (60,) and first.dtype == np.float64
        assert np.isfinite(first).all()
        rows = np.concatenate([again(codes[i : i + 1]) for i in range(60)])
        np.testing.assert_allclose(first, rows, rtol=1e-9, atol=1e-9)


def test_largest_space() -> None:
    shape = SpaceShape(np.full(64, 36), np.arange(64) % 2 == 0, np.arange(64) % 4)
    rng = np.random.default_rng(0)
    for kind, _ in KINDS.values():
        assert np.isfinite(kind.make(shape, rng)(shape.sample(20, rng))).all()


def test_tasks_are_seeded_and_of_unit_scale() -> None:
    spreads = []
    for seed in range(100):
        task = random_task(np.random.default_rng(seed))
        twin = random_task(np.random.default_rng(seed))
        codes = task.shape.sample(200, np.random.default_rng(1))
        values = task.landscape(codes)
        np.testing.assert_array_equal(values, twin.landscape(codes))
        assert np.isfinite(values).all() and task.noise >= 0
        spreads.append(np.subtract(*np.quantile(values, [0.75, 0.25])))
    assert 0.5 < np.median(spreads) < 2


@pytest.mark.parametrize(
    ("seed", "options", "values", "after"),
    [
        (0, [4, 4, 4, 4, 4, 4], [0.660765813, 0.520971209, -1.642308143], 791505373),
        (1, [3, 3, 3, 3, 3], [-3.001774899, 0.547418912, -0.892837891], 532731119),
        (2, [5, 5, 5], [-0.01540862, 0.687078879, 0.62665565], 686244920),
    ],
)
def test_the_tasks_of_a_seed_never_change(
    seed: int, options: list[int], values: list[float], after: int
) -> None:
    """The shipped ranker was trained on these draws."""
    rng = np.random.default_rng(seed)
    task = random_task(rng, max_positions=12)
    assert task.shape.cardinalities.tolist() == options
    assert task.landscape(task.shape.sample(3, rng)) == pytest.approx(values, abs=1e-8)
    assert int(rng.integers(10**9)) == after, "as many random numbers as before"


def test_additive_is_additive() -> None:
    rng = np.random.default_rng(0)
    shape = cell()
    f = Additive.make(shape, rng)
    a, b = shape.sample(2, rng)
    mixed = np.stack([a, b, np.r_[a[:3], b[3:]], np.r_[b[:3], a[3:]]])
    values = f(mixed)
    assert values[0] + values[1] == pytest.approx(values[2] + values[3])


def test_pairwise_interacts() -> None:
    rng = np.random.default_rng(0)
    shape = cell(2, 4)
    grid = np.stack(np.meshgrid(range(4), range(4)), axis=2).reshape(-1, 2).astype(np.uint8)
    table = Pairwise.make(shape, rng)(grid).reshape(4, 4)
    rest = table - table.mean(0) - table.mean(1, keepdims=True) + table.mean()
    assert np.abs(rest).max() > 0.01


def test_hidden_optimum_is_the_best() -> None:
    rng = np.random.default_rng(3)
    shape = cell()
    f = HiddenOptimum.make(shape, rng)
    assert f(f.centres[:1])[0] == pytest.approx(0)
    assert f(shape.sample(500, rng)).max() <= 1e-12


def test_conditional_mutes() -> None:
    shape = cell(3, 2)
    inner = Additive.make(shape, np.random.default_rng(0))
    muted = np.array([[False, False, True], [False, False, False]])
    f = Conditional(inner, 0, muted)
    values = f(np.array([[0, 1, 0], [0, 1, 1], [1, 1, 0], [1, 1, 1]], np.uint8))
    assert values[0] == values[1] and values[2] != values[3]


def test_regions_count_conjunctions() -> None:
    regions = Regions(np.array([[0, 1, -1]]), np.array([[1, 2, 0]]), np.array([3.0]))
    assert regions(np.array([[1, 2], [1, 1], [0, 2]], np.uint8)).tolist() == [3, 0, 0]


def test_warps_are_monotone() -> None:
    x = np.linspace(-5, 5, 200)
    for seed in range(50):
        assert (np.diff(Warp.make(np.random.default_rng(seed))(x)) >= -1e-12).all()


def test_ordered_effects_are_finite() -> None:
    rng = np.random.default_rng(0)
    for options in (1, 2, 3, 36):
        places = np.linspace(-1, 1, options)
        assert all(np.isfinite(ordered_effect(places, rng)).all() for _ in range(40))


def test_layout_of_a_space() -> None:
    space = SearchSpace.of("s", {"a": ["x", "y"], "b": [1, 2, 3], "c": ["x", "y"], "d": [7]})
    shape = SpaceShape.of(space)
    assert shape.cardinalities.tolist() == [2, 3, 2, 1]
    assert shape.ordered.tolist() == [False, True, False, False]
    assert shape.groups[0] == shape.groups[2] != shape.groups[1]
    assert shape.places[1].tolist() == [-1, 0, 1] and shape.places[3, 0] == 0


def test_mutants_differ_in_few_positions() -> None:
    rng = np.random.default_rng(0)
    shape = cell(10)
    parents = shape.sample(50, rng)
    edits = np.full(50, 2)
    assert ((shape.mutate(parents, edits, rng) != parents).sum(axis=1) <= 2).all()
