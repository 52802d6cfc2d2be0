"""The in-context ranker: the contract of Ranker, and its invariances."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from lm_searcher.spaces.errors import ConfigError, SpaceError
from lm_searcher.spaces.history import History
from lm_searcher.spaces.landscapes.landscapes import Additive
from lm_searcher.spaces.landscapes.space_shape import SpaceShape
from lm_searcher.spaces.ncode import Codes
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.tools.protocols import Ranker
from lm_searcher.tools.rankers.incontext import pending as pending_module
from lm_searcher.tools.rankers.incontext.loading import load_model
from lm_searcher.tools.rankers.incontext.model import InContextConfig, InContextModel
from lm_searcher.tools.rankers.incontext.pretraining.episodes import Episodes
from lm_searcher.tools.rankers.incontext.pretraining.objective import listwise_loss, pick_regret
from lm_searcher.tools.rankers.incontext.pretraining.searches import Searches
from lm_searcher.tools.rankers.incontext.ranker import (
    LISTING_TRIALS,
    InContextRanker,
    short_list,
)
from lm_searcher.tools.rankers.incontext.trial_selection import select_trials

SPACE = SearchSpace.of(
    "mixed",
    {
        "op1": ["conv", "skip", "none", "pool"],
        "op2": ["conv", "skip", "none", "pool"],
        "width": [8, 16, 32, 64, 128],
        "act": ["relu", "tanh"],
        "fixed": [1],
    },
)
RNG = np.random.default_rng


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Several threads wait for each other while the cores are busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def model() -> InContextModel:
    torch.manual_seed(0)
    model = InContextModel(InContextConfig(width=32, option_width=16, layers=2, heads=2))
    for parameter in model.parameters():  # so that every part has a say
        torch.nn.init.normal_(parameter, std=0.15)
    torch.nn.Module.eval(model)
    return model


def history(shape: SpaceShape, n: int, seed: int = 0, failed: int = 0, pending: int = 0) -> History:
    rng = RNG(seed)
    scores = rng.normal(size=n)
    scores[: failed + pending] = np.nan
    place = np.arange(n)
    return History(
        shape.sample(n, rng),
        scores,
        place < failed,
        (place >= failed) & (place < failed + pending),
    )


def constant(shape: SpaceShape) -> History:
    h = history(shape, 8)
    return History(h.codes, np.full(8, 0.5), h.failed, h.pending)


def infinite(shape: SpaceShape) -> History:
    h = history(shape, 8)
    return History(h.codes, np.r_[np.inf, -np.inf, h.scores[2:] * 1e30], h.failed, h.pending)


SHAPE = SpaceShape.of(SPACE)
HISTORIES = {
    "empty": History.empty(5),
    "one": history(SHAPE, 1),
    "some": history(SHAPE, 30),
    "constant": constant(SHAPE),
    "infinite": infinite(SHAPE),
    "failures only": history(SHAPE, 6, failed=6),
    "pending only": history(SHAPE, 4, pending=4),
    "failed and pending": history(SHAPE, 30, failed=8, pending=9),
    "repeated": history(SHAPE, 4) + history(SHAPE, 4),
    "long": history(SHAPE, 1100, failed=40, pending=30),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name,candidates",
    [(name, n) for name in HISTORIES for n in (1, 70) if (name, n) != ("long", 1)],
)
def test_a_permutation_the_same_each_time(
    model: InContextModel, name: str, candidates: int
) -> None:
    ranker: Ranker = InContextRanker(SHAPE, model)
    pool = SHAPE.sample(candidates, RNG(5))
    first = ranker.rank(pool, HISTORIES[name], seed=3)
    assert sorted(first.tolist()) == list(range(candidates))
    again = InContextRanker(SHAPE, model).rank(pool, HISTORIES[name], seed=3)
    np.testing.assert_array_equal(first, again)
    scores = InContextRanker(SHAPE, model).score(pool, HISTORIES[name])
    assert np.isfinite(scores).all()
    assert (np.diff(scores[first]) <= 0).all()


def test_empty_history_is_a_seeded_shuffle(model: InContextModel) -> None:
    ranker = InContextRanker(SHAPE, model)
    pool = SHAPE.sample(50, RNG(0))
    orders = [ranker.rank(pool, History.empty(5), seed=s).tolist() for s in range(3)]
    assert orders[0] != orders[1] != orders[2]


def test_candidates_do_not_see_each_other(model: InContextModel) -> None:
    ranker = InContextRanker(SHAPE, model)
    pool = SHAPE.sample(300, RNG(0))
    pool[7] = pool[3]
    scores = ranker.score(pool, HISTORIES["some"])
    assert scores[7] == pytest.approx(scores[3], abs=1e-4)
    np.testing.assert_allclose(scores[:20], ranker.score(pool[:20], HISTORIES["some"]), atol=1e-4)


def relabelled(shape: SpaceShape, seed: int) -> tuple[SpaceShape, NDArray[np.intp], list[Codes]]:
    """A shape with shuffled positions and renumbered options, the order of the positions, and the
    new numbers. A group is renumbered alike; ordered positions are reversed or not."""
    rng = RNG(seed)
    order = rng.permutation(shape.positions)
    by_group: dict[int, Codes] = {}
    numbers = []
    for p in order:
        count, group = int(shape.cardinalities[p]), int(shape.groups[p])
        new = rng.permutation(count) if not shape.ordered[p] else np.arange(count)[::-1]
        numbers.append(by_group.setdefault(group, new.astype(np.uint8)))
    fresh = SpaceShape(
        shape.cardinalities[order], shape.ordered[order], shape.groups[order] * 7 + 1
    )
    return fresh, order, numbers


@pytest.mark.parametrize("seed", range(4))
def test_numbering_does_not_matter(model: InContextModel, seed: int) -> None:
    fresh, order, numbers = relabelled(SHAPE, seed)

    def translate(codes: Codes) -> Codes:
        return np.stack([n[codes[:, p]] for n, p in zip(numbers, order, strict=True)], axis=1)

    pool, h = SHAPE.sample(60, RNG(9)), HISTORIES["failed and pending"]
    back = RNG(1).permutation(len(h))  # nor does the order of the trials
    other = History(translate(h.codes)[back], h.scores[back], h.failed[back], h.pending[back])
    ours = InContextRanker(SHAPE, model).score(pool, h)
    theirs = InContextRanker(fresh, model).score(translate(pool), other)
    np.testing.assert_allclose(ours, theirs, atol=2e-3 * np.abs(ours).max())
    assert np.ptp(ours) > 1e-2 * np.abs(ours).max()


def test_scale_of_the_scores_does_not_matter(model: InContextModel) -> None:
    h, pool = HISTORIES["some"], SHAPE.sample(60, RNG(9))
    other = History(h.codes, 1e6 + 250 * h.scores, h.failed, h.pending)
    ranker = InContextRanker(SHAPE, model)
    ours = ranker.score(pool, h)
    np.testing.assert_allclose(ours, ranker.score(pool, other), atol=1e-3 * np.abs(ours).max())


def test_failures_and_pending_trials_are_read(model: InContextModel) -> None:
    h, pool = HISTORIES["some"], SHAPE.sample(60, RNG(9))
    ranker = InContextRanker(SHAPE, model)
    none, some = np.zeros(6, bool), np.ones(6, bool)
    more = [h, h + History(pool[:6], np.full(6, np.nan), some, none), h.with_pending(pool[:6])]
    scores = [ranker.score(pool, x) for x in more]
    assert not np.allclose(scores[0], scores[1]) and not np.allclose(scores[1], scores[2])


def test_select_trials() -> None:
    h = history(SHAPE, 300, failed=50, pending=100)
    rows = select_trials(h, 40)
    assert len(rows) == 40 and (np.diff(rows) > 0).all()
    assert not h.pending[rows].any() and set(h.elites(20)) <= set(rows)
    assert h.failed[rows].any() and len(select_trials(h, 400)) == 200


def test_largest_space(model: InContextModel) -> None:
    shape = SpaceShape(np.full(64, 36), np.arange(64) % 2 == 0, np.arange(64) % 3)
    ranker = InContextRanker(shape, model)
    pool = shape.sample(100, RNG(0))
    assert np.isfinite(ranker.score(pool, history(shape, 50))).all()
    with pytest.raises(SpaceError, match="64"):
        InContextRanker(SpaceShape(np.full(65, 2), np.zeros(65, bool), np.zeros(65, int)), model)


def test_weights_load_and_bad_ones_are_refused(model: InContextModel, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "good")
    ranker = InContextRanker.for_space(SPACE, tmp_path / "good")
    pool, h = SHAPE.sample(30, RNG(0)), HISTORIES["some"]
    np.testing.assert_allclose(
        ranker.score(pool, h), InContextRanker(SHAPE, model).score(pool, h), atol=1e-5
    )
    file = tmp_path / "good" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    for folder in (tmp_path / "good", tmp_path / "none"):
        with pytest.raises(ConfigError, match="ranker weights"):
            load_model(folder)
    with pytest.raises(ConfigError, match="pickled weights are not read"):
        load_model(tmp_path)  # whatever lies there, no safetensors
    config = InContextConfig(width=32, option_width=16, layers=2, heads=2, format=99)
    InContextModel(config).save_pretrained(tmp_path / "other")
    with pytest.raises(ConfigError, match="format"):
        load_model(tmp_path / "other")


BAD_CONFIGS = {
    "no JSON": ("{", "not readable"),
    "a list": ("[]", "not readable"),
    "of another model": ('{"model_type": "llama"}', "of model type 'llama'"),
    "without a type": ("{}", "not readable ('model_type')"),
    "heads that do not divide the width": (32, 3, "make no network"),
    "a width that is text": ("wide", 2, "not readable"),
    "another size": (64, 2, "not readable (Error"),
}


@pytest.mark.parametrize("name", BAD_CONFIGS)
def test_a_bad_config_is_refused_in_one_line(
    model: InContextModel, tmp_path: Path, name: str
) -> None:
    model.save_pretrained(tmp_path)
    text, *heads, message = BAD_CONFIGS[name]
    if heads:
        document = json.loads((tmp_path / "config.json").read_text())
        text = json.dumps(document | {"width": text, "heads": heads[0]})
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ConfigError) as refusal:
        load_model(tmp_path)
    assert message in str(refusal.value) and "\n" not in str(refusal.value)


def test_a_config_of_earlier_versions(model: InContextModel, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    document = json.loads((tmp_path / "config.json").read_text())
    assert document.pop("exploration") == 0
    (tmp_path / "config.json").write_text(json.dumps(document | {"courage": 1.5}))
    assert load_model(tmp_path).config.exploration == 1.5
    load_model(tmp_path).save_pretrained(tmp_path / "again")
    assert "courage" not in (tmp_path / "again" / "config.json").read_text()


def test_pickles_and_nan_weights_are_refused(model: InContextModel, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    torch.save(model.state_dict(), file)
    with pytest.raises(ConfigError, match="not readable"):
        load_model(tmp_path)
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    tensors["score.bias"][0] = float("nan")
    save_file(tensors, file)
    with pytest.raises(ConfigError, match="not finite"):
        load_model(tmp_path)


@pytest.mark.slow
def test_episodes_are_seeded_and_finite() -> None:
    streams = [iter(Episodes(seed, 600, 16, 30)) for seed in (0, 0, 1)]
    for _ in range(5):
        a, b, c = (next(s) for s in streams)
        torch.testing.assert_close(a.values, b.values)
        assert torch.isfinite(a.inputs.candidate_features).all()
        assert torch.isfinite(a.inputs.trial_features).all()
        assert a.values.shape != c.values.shape or not torch.equal(a.values, c.values)


def test_searches_advance() -> None:
    search = Searches(RNG(0), 4, 6, max_positions=5)
    search.advance(search.candidate_pools(20, 0.5), 3)
    assert search.trials == 9
    episode = search.episode(search.candidate_pools(20, 0.5), 8)
    assert episode.values.shape == (4, 8)


def test_loss_and_regret() -> None:
    values = torch.tensor([[0.0, 1.0, 2.0], [1.0, 1.0, 1.0]])
    right, wrong = 9 * values, -9 * values
    good, bad = (torch.stack([x, x], 2) for x in (right, wrong))
    assert listwise_loss(good[:1], values[:1]) < 0.1 < 5 < listwise_loss(bad[:1], values[:1])
    assert pick_regret(right, values).tolist() == [0, 0]
    assert pick_regret(wrong, values).tolist() == [2, 0]


def test_shipped_weights_find_the_better_half() -> None:
    """After 20 random trials on additive tasks the first pick beats nine tenths of the pool."""
    weights = load_model()
    shares = []
    for seed in range(8):
        rng = RNG(seed)
        landscape = Additive.make(SHAPE, rng)
        codes, pool = SHAPE.sample(20, rng), SHAPE.sample(150, rng)
        none = np.zeros(20, bool)
        first = InContextRanker(SHAPE, weights).rank(
            pool, History(codes, landscape(codes), none, none), seed=0
        )[0]
        shares.append((landscape(pool) <= landscape(pool[first : first + 1])).mean())
    assert np.mean(shares) > 0.9


@pytest.mark.parametrize("trials", [30, LISTING_TRIALS + 20])
def test_of_a_large_pool_the_network_reads_the_short_list(
    model: InContextModel, trials: int
) -> None:
    space = SearchSpace.of("large", {f"p{i}": list("abcdef") for i in range(8)})
    ranker = InContextRanker(SpaceShape.of(space), model)
    size, _ = short_list(trials)
    known, pool = history(ranker.shape, trials), space.sample(size + 300, RNG(1))
    scores = ranker.score(pool, known)
    order = np.argsort(-scores)
    listed, rest = order[:size], order[size:]
    assert np.allclose(scores[listed], ranker.score(pool[listed], known), atol=1e-3)
    assert scores[rest].max() < scores[listed].min()
    read = ranker.score(pool[rest[:50]], known)  # the network's own scores of them
    assert not np.allclose(scores[rest[:50]], read, atol=1e-3)


CELLS = SearchSpace.of("cells", {f"p{i}": list("abcd") for i in range(8)})


def cells(n: int = 20, seed: int = 0) -> History:
    codes = CELLS.sample(n, RNG(seed))
    none = np.zeros(n, bool)
    return History(codes, (codes == 0).sum(1) + 0.1 * codes[:, 0], none, none)


@pytest.fixture(scope="module")
def shipped() -> InContextRanker:
    return InContextRanker.for_space(CELLS)


def test_candidates_like_a_pending_trial_are_no_longer_uncertain(shipped: InContextRanker) -> None:
    known, pool = cells(), CELLS.sample(500, RNG(1))
    before = shipped.score(pool, known)
    best = pool[[before.argmax()]]
    change = shipped.score(pool, known.with_pending(best)) - before
    edits = (pool != best).sum(1)
    assert (change <= 0).all()
    assert change[edits <= 2].mean() < change[edits > 5].mean() - 0.3


def test_each_pick_is_made_as_if_those_before_it_were_pending(shipped: InContextRanker) -> None:
    pool, known = CELLS.sample(100, RNG(1)), cells().with_pending(CELLS.sample(3, RNG(2)))
    order = shipped.rank_batch(pool, known, 6, seed=0)
    assert sorted(order.tolist()) == list(range(100))
    for i in range(6):
        left = np.setdiff1d(np.arange(100), order[:i])
        scores = shipped.score(pool[left], known.with_pending(pool[order[:i]]))
        assert left[scores.argmax()] == order[i]
    rest = order[6:]
    assert (np.diff(shipped.score(pool, known)[rest]) <= 1e-4).all(), "the others by their scores"


def test_one_pick_is_the_best_of_the_order(shipped: InContextRanker) -> None:
    pool, known = CELLS.sample(300, RNG(1)), cells()
    order = shipped.rank(pool, known, seed=3)
    np.testing.assert_array_equal(shipped.rank_batch(pool, known, 1, seed=3), order)
    assert shipped.rank_batch(pool, known, 9, seed=3)[0] == order[0]
    every = shipped.rank_batch(pool, known, 999, seed=3)
    assert sorted(every.tolist()) == list(range(300))


def test_picks_of_an_unknown_space_are_random(shipped: InContextRanker) -> None:
    pool, none = CELLS.sample(50, RNG(1)), History.empty(8)
    for known in (none, none.with_pending(CELLS.sample(4, RNG(2)))):
        orders = [shipped.rank_batch(pool, known, 9, seed=seed).tolist() for seed in range(3)]
        assert orders[0] != orders[1] != orders[2] and sorted(orders[0]) == list(range(50))


def test_of_many_pending_trials_those_next_to_the_best_candidates_count(
    shipped: InContextRanker, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, known = CELLS.sample(200, RNG(1)), cells()
    best = pool[np.argsort(-shipped.score(pool, known))[:20]]
    near = best.copy()
    near[:, 0] = (near[:, 0] + 1) % 4  # one edit from each of the best
    far = CELLS.sample(400, RNG(2))
    crowd = known.with_pending(np.concatenate([far, near]))
    monkeypatch.setattr(pending_module, "MOST_PENDING", 40)
    change = shipped.score(best, crowd) - shipped.score(best, known)
    alone = shipped.score(best, known.with_pending(near)) - shipped.score(best, known)
    assert (change < 0.5 * alone).all(), "nearly all of what they would lose without the crowd"


def test_what_is_cached_changes_no_bit(model: InContextModel) -> None:
    """Nor does what was asked before: a resumed run decides as an uninterrupted one."""
    used, pool = InContextRanker(SHAPE, model), SHAPE.sample(80, RNG(3))
    whole = history(SHAPE, 40, failed=3)
    for n in (10, 11, 11, 40, 10):
        known = History(*(a[:n] for a in (whole.codes, whole.scores, whole.failed, whole.pending)))
        for pending in (0, 5, 2):
            h = known.with_pending(SHAPE.sample(pending, RNG(4)))
            fresh = InContextRanker(SHAPE, model)
            np.testing.assert_array_equal(used.score(pool, h), fresh.score(pool, h))
            np.testing.assert_array_equal(
                used.rank_batch(pool, h, 7, seed=1), fresh.rank_batch(pool, h, 7, seed=1)
            )
    assert len(used._digests) <= 2


def test_the_place_of_pending_trials_in_the_history_does_not_matter(model: InContextModel) -> None:
    ranker, pool, h = InContextRanker(SHAPE, model), SHAPE.sample(60, RNG(9)), HISTORIES["some"]
    behind = h.with_pending(pool[:3])
    back = np.r_[3:30, 30:33, 0:3]  # they are between finished trials
    mixed = History(
        behind.codes[back], behind.scores[back], behind.failed[back], behind.pending[back]
    )
    ours, theirs = ranker.score(pool, behind), ranker.score(pool, mixed)
    np.testing.assert_allclose(ours, theirs, atol=2e-3 * np.abs(ours).max())
