from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from lm_searcher.spaces.errors import ConfigError
from lm_searcher.spaces.history import History
from lm_searcher.spaces.ncode import Codes
from lm_searcher.spaces.space import Position, SearchSpace
from lm_searcher.tools.protocols import Ranker, Ranking
from lm_searcher.tools.rankers import RANKERS, make_ranker
from lm_searcher.tools.rankers.distance import EditDistance, nearest_first
from lm_searcher.tools.rankers.optuna_samplers import OptunaRanker

SPACE = SearchSpace(
    "mixed",
    (
        Position("op", ("a", "b", "c", "d")),
        Position("width", (8, 16, 32, 64, 128)),  # ordered
        Position("only", ("it",)),
        Position("act", ("relu", "gelu", "silu")),
        Position("depth", (1, 2, 3, 4)),  # ordered
        Position("norm", ("batch", "layer")),
    ),
)
ALL = SPACE.enumerate()  # 480


def additive(codes: Codes, seed: int = 0) -> np.ndarray:
    """A landscape where every option adds its own amount; ordered ones rise to a peak."""
    rng = np.random.default_rng(seed)
    value = np.zeros(len(codes))
    for place, position in enumerate(SPACE.positions):
        n = len(position.choices)
        effects = rng.normal(size=n)
        if position.ordered:
            effects = -np.abs(np.arange(n) - rng.integers(n)) / n * 2
        value += effects[codes[:, place]]
    return value


def history_of(codes: Codes, scores: object, failed: object = False) -> History:
    n = len(codes)
    return History(
        codes,
        np.broadcast_to(np.asarray(scores, float), n).copy(),
        np.broadcast_to(np.asarray(failed, bool), n).copy(),
        np.zeros(n, bool),
    )


def some(n: int, seed: int = 1) -> Codes:
    return ALL[np.random.default_rng(seed).permutation(len(ALL))[:n]]


HISTORIES = {
    "empty": History.empty(6),
    "one": history_of(some(1), 0.5),
    "few": history_of(some(3), [0.1, 0.3, 0.2]),
    "usual": history_of(some(30), additive(some(30))),
    "equal scores": history_of(some(30), 0.5),
    "failures only": history_of(some(30), np.nan, True),
    "failures mixed in": history_of(
        some(30), np.where(np.arange(30) % 3, additive(some(30)), np.nan), np.arange(30) % 3 == 0
    ),
    "pending only": History.empty(6).with_pending(some(4)),
    "pending as well": history_of(some(30), additive(some(30))).with_pending(some(4, seed=9)),
    "one scored, many failed": history_of(some(20), [0.5] + [np.nan] * 19, [False] + [True] * 19),
    "the same architecture thrice": history_of(some(1).repeat(3, axis=0), [0.1, 0.2, 0.3]),
    "enormous scores": history_of(some(15), additive(some(15)) * 1e12),
    "tiny differences": history_of(some(15), 1 + additive(some(15)) * 1e-9),
}


ENDPOINTS = ["endpoint semantic", "endpoint ncode"]
LOCAL_MODELS = ["lm score", "lm generate"]


@pytest.fixture(scope="module")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained language model."""
    from lm_searcher.tools.rankers.lm.finetuning.tiny_model import from_scratch

    folder = tmp_path_factory.mktemp("model")
    model, tokenizer = from_scratch("tiny", 1, width=32, layers=2, heads=2)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


NAMES = [*RANKERS, *ENDPOINTS, *LOCAL_MODELS]
SLOW = {ENDPOINTS[1], LOCAL_MODELS[1]}
COSTLY = {"forest", "gp"}
"""These fit a model at every call; by day they do so on the histories of `BY_DAY` only."""
BY_DAY = {"usual", "failures mixed in", "pending as well"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each test of the contract every ranker, and every history that the test asks for."""
    if metafunc.cls is not TestContract:
        return
    slow = {name: [pytest.mark.slow] if name in SLOW else [] for name in NAMES}
    if "which" not in metafunc.fixturenames:
        metafunc.parametrize("name", [pytest.param(n, marks=slow[n]) for n in NAMES])
        return
    cases = []
    for which, name in itertools.product(WHICH.get(metafunc.function.__name__, HISTORIES), NAMES):
        nightly = [pytest.mark.nightly] if name in COSTLY and which not in BY_DAY else []
        cases.append(pytest.param(name, which, marks=slow[name] + nightly))
    metafunc.parametrize(("name", "which"), cases)


WHICH = {
    "test_seeds_differ": ["empty", "usual", "equal scores", "failures only"],
    "test_a_tiny_pool": ["empty", "usual", "failures only", "pending as well"],
}
"""The histories of tests that do without some."""


class TestContract:
    """The contract of every ranker."""

    @pytest.fixture(autouse=True)
    def _server(self, name: str, request: pytest.FixtureRequest) -> None:
        """The model that rankers of language models use."""
        self.url = request.getfixturevalue("loopback").url if name in ENDPOINTS else ""
        self.folder = request.getfixturevalue("random_model") if name in LOCAL_MODELS else ""

    def make(self, name: str, space: SearchSpace) -> Ranker:
        if name in RANKERS:
            return make_ranker(name, space)
        if name in LOCAL_MODELS:
            chosen = {"mode": name.split()[1], "fallback": "evolution"}
            more = {"candidates": 24} if name == LOCAL_MODELS[0] else {}
            return make_ranker(f"lm:{self.folder}", space, chosen | more)
        settings = {"prompt": name.split()[1], "fallback": "evolution"}
        return make_ranker(f"endpoint:m@{self.url}", space, settings)

    @pytest.fixture(autouse=True)
    def _two_suggestions(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Half of the usual number, because a Gaussian process is slow."""
        monkeypatch.setattr(OptunaRanker, "SUGGESTIONS", 2)

    def rank(self, name: str, pool: Codes, history: History, seed: int = 0) -> Ranking:
        before = pool.copy(), history.codes.copy(), history.scores.copy()
        ranking = self.make(name, SPACE).rank(pool, history, seed=seed)
        after = pool, history.codes, history.scores
        for a, b in zip(before, after, strict=True):
            assert np.array_equal(a, b, equal_nan=a.dtype.kind == "f"), "arguments are not written"
        assert ranking.dtype.kind == "i" and ranking.shape == (len(pool),)
        assert np.array_equal(np.sort(ranking), np.arange(len(pool))), "a permutation"
        return ranking

    def test_a_permutation_that_repeats_for_a_seed(self, name: str, which: str) -> None:
        first = self.rank(name, some(60, seed=5), HISTORIES[which], seed=7)
        again = self.rank(name, some(60, seed=5), HISTORIES[which], seed=7)
        assert np.array_equal(first, again)

    def test_seeds_differ(self, name: str, which: str) -> None:
        """Not for the local ranker, which is deterministic after the first finished trial."""
        if name == "local" and which != "empty":
            pytest.skip("the local ranker's scores do not depend on a seed")
        pool = some(60, seed=5)
        rankings = {self.rank(name, pool, HISTORIES[which], seed=s).tobytes() for s in range(4)}
        assert len(rankings) > 1

    @pytest.mark.parametrize("n", [1, 2, 3])
    def test_a_tiny_pool(self, name: str, which: str, n: int) -> None:
        self.rank(name, some(n), HISTORIES[which])

    def test_duplicate_rows_in_the_pool(self, name: str) -> None:
        self.rank(name, some(10).repeat(6, axis=0), HISTORIES["usual"])
        self.rank(name, some(1).repeat(40, axis=0), HISTORIES["usual"])

    def test_a_pool_of_what_was_tried(self, name: str) -> None:
        self.rank(name, HISTORIES["usual"].codes, HISTORIES["usual"])

    def test_twenty_thousand_candidates(self, name: str) -> None:
        pool = SPACE.sample(20_000, np.random.default_rng(0))
        self.rank(name, pool, HISTORIES["few"])

    def test_a_read_only_pool(self, name: str) -> None:
        pool = np.frombuffer(some(20).tobytes(), np.uint8).reshape(20, 6)
        self.rank(name, pool, HISTORIES["usual"])

    @pytest.mark.parametrize(
        "positions",
        [
            {"a": ["x"]},
            {"a": ["x"], "b": [1]},
            {"a": [1, 2]},
            {"a": list(range(36)), "b": ["x"]},
            {"a": [1, 2, 3], "b": [4, 3, 2]},
            {"a": [True, False], "b": ["x", "y"]},
            {f"p{i}": [1, 2, 3] for i in range(40)},
        ],
        ids=["one of one", "two of one", "one", "36 options", "ordered", "unordered", "40"],
    )
    def test_unusual_spaces(self, name: str, positions: dict[str, list[object]]) -> None:
        space = SearchSpace.of("unusual", positions)  # type: ignore[arg-type]
        rng = np.random.default_rng(0)
        ranker, pool = self.make(name, space), space.sample(30, rng)
        history = history_of(space.sample(12, rng), rng.normal(size=12))
        for known in (History.empty(len(positions)), history):
            ranking = ranker.rank(pool, known, seed=1)
            assert np.array_equal(np.sort(ranking), np.arange(30))

    def test_earlier_calls_leave_no_trace(self, name: str) -> None:
        used, fresh = self.make(name, SPACE), self.make(name, SPACE)
        used.rank(some(40, seed=2), HISTORIES["few"], seed=3)
        used.rank(some(50, seed=4), HISTORIES["pending as well"], seed=5)
        used.rank(some(50, seed=4), HISTORIES["failures only"], seed=5)
        pool = some(60, seed=6)
        expected = fresh.rank(pool, HISTORIES["usual"], seed=8)
        assert np.array_equal(used.rank(pool, HISTORIES["usual"], seed=8), expected)
        assert np.array_equal(used.rank(pool, HISTORIES["usual"], seed=8), expected)

    def test_numpys_and_pythons_own_generators_are_left_alone(self, name: str) -> None:
        np.random.seed(1)
        before = np.random.get_state()[1].copy()
        self.rank(name, some(30), HISTORIES["usual"])
        assert np.array_equal(np.random.get_state()[1], before)


LARGE = SearchSpace.of("large", {f"p{i}": list("abcde") for i in range(6)})
WHOLE = LARGE.enumerate()  # 15,625


def found_after(name: str, seed: int, trials: int, initial: int = 8) -> float:
    """The best of `trials` on an additive landscape: 0 is its mean, 1 its best."""
    effects = np.random.default_rng(seed).normal(size=(6, 5))
    truth = effects[np.arange(6), WHOLE].sum(axis=1)
    ranker = make_ranker(name, LARGE)
    if hasattr(ranker, "SUGGESTIONS"):
        ranker.SUGGESTIONS = 1  # only the first is asked for here
    left = np.random.default_rng(seed).permutation(len(WHOLE))
    tried, left = left[:initial], left[initial:]
    for number in range(initial, trials):
        ranking = ranker.rank(WHOLE[left], history_of(WHOLE[tried], truth[tried]), seed=number)
        tried, left = np.append(tried, left[ranking[0]]), np.delete(left, ranking[0])
    return float((truth[tried].max() - truth.mean()) / (truth.max() - truth.mean()))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "trials"),
    [("evolution", 40), ("tpe", 40), ("gp", 20), ("nsga2", 60), ("forest", 24), ("local", 14)],
)
def test_rankers_beat_chance(name: str, trials: int) -> None:
    found = [found_after(name, seed, trials) for seed in range(6)]
    floor = [found_after("random", seed, trials) for seed in range(6)]
    assert np.mean(found) > np.mean(floor) + 0.08, (found, floor)
    assert sum(f >= r for f, r in zip(found, floor, strict=True)) >= 4, (found, floor)


def test_every_ranker_but_random_is_compared_with_chance() -> None:
    (mark,) = (m for m in test_rankers_beat_chance.pytestmark if m.name == "parametrize")
    assert {name for name, _ in mark.args[1]} == set(RANKERS) - {"random"}


def test_nsga2_leaves_its_first_generation() -> None:
    """In later generations it suggests children of good parents, not random architectures."""

    def mean_of_first(trials: int) -> float:
        codes, ranker = some(trials), make_ranker("nsga2", SPACE)
        history = history_of(codes, additive(codes))
        firsts = [ALL[ranker.rank(ALL, history, seed=s)[0]] for s in range(40)]
        return float(additive(np.array(firsts)).mean())

    truth = additive(ALL)
    assert abs(mean_of_first(19) - truth.mean()) < 0.6 * truth.std(), "the first is random"
    assert mean_of_first(60) > truth.mean() + truth.std() / 2
    assert mean_of_first(60) > mean_of_first(19) + truth.std() / 3


def test_evolution_prefers_the_neighbours_of_the_best() -> None:
    codes = some(10)
    history = history_of(codes, np.arange(10.0))  # with all ten in the tournament, the last wins
    ranking = make_ranker("evolution", SPACE).rank(ALL, history, seed=0)
    differing = (ALL[ranking] != codes[9]).sum(axis=1)
    assert differing[0] == 0
    assert np.all(np.diff(differing[4:]) >= 0), "nearest first, any edit alike"


def test_evolution_forgets_the_oldest() -> None:
    codes = some(31)
    scores = np.zeros(31)
    scores[0] = 9.0  # best, but 30 came after it
    ranker = make_ranker("evolution", SPACE)
    firsts = [ALL[ranker.rank(ALL, history_of(codes, scores), seed=s)[0]] for s in range(30)]
    assert not any(np.array_equal(f, codes[0]) for f in firsts)


def test_an_optuna_ranker_reads_pending_trials() -> None:
    """With the constant liar, TPE does not suggest a pending architecture again."""
    history = history_of(some(30), additive(some(30)))
    ranker = make_ranker("tpe", SPACE)
    plain = [ranker.rank(ALL, history, seed=s) for s in range(8)]
    firsts = ALL[[r[0] for r in plain]]
    aware = [ranker.rank(ALL, history.with_pending(firsts), seed=s) for s in range(8)]
    assert any(a[0] != p[0] for a, p in zip(aware, plain, strict=True))


def test_edit_distance() -> None:
    distance = EditDistance(SPACE)
    code = np.array([0, 0, 0, 0, 0, 0], np.uint8)
    pool = np.array(
        [
            [0, 0, 0, 0, 0, 0],
            [1, 0, 0, 0, 0, 0],  # an operation
            [3, 0, 0, 0, 0, 0],  # any other operation is as far
            [0, 1, 0, 0, 0, 0],  # one step of five widths
            [0, 4, 0, 0, 0, 0],  # from end to end
            [1, 4, 0, 2, 3, 1],
        ],
        np.uint8,
    )
    assert distance(pool, code).tolist() == pytest.approx([0, 1, 1, 0.625, 1, 5])


def test_nearest_first_ranks_a_candidate_for_each_target() -> None:
    rng = np.random.default_rng(0)
    far = [np.array([0, 1, 2, 3], np.float32), np.array([0, 3, 2, 1], np.float32)]
    assert nearest_first(far, rng).tolist() == [0, 3, 1, 2]
    one = [np.array([5], np.float32)] * 4
    assert nearest_first(one, rng).tolist() == [0]


def test_an_unknown_ranker_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"unknown ranker 'tp'; did you mean 'tpe'\?"):
        make_ranker("tp", SPACE)
