from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import optuna
import pytest

from lm_searcher.agent.study import storage as module
from lm_searcher.agent.study.objectives import ObjectiveSet
from lm_searcher.agent.study.paths import RunFiles
from lm_searcher.agent.study.pruners import PrunerSettings, make_pruner
from lm_searcher.agent.study.storage import (
    MEMORY,
    has_run,
    open_storage,
    shown,
    sqlite_path,
    studies,
)
from lm_searcher.agent.study.trial_store import TrialStore
from lm_searcher.spaces.errors import StoreError
from lm_searcher.spaces.history import Trial, TrialState
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.tools.protocols import Outcome

SPACE = SearchSpace.of("s", {"width": [16, 32, 64], "act": ["relu", "gelu"], "bias": [True, False]})


@contextmanager
def opened(
    url: str, name: str = "run", direction: str = "max", **options: object
) -> Iterator[TrialStore]:
    with closing(
        TrialStore(url, name, SPACE, ObjectiveSet.of("value", direction), **options)
    ) as store:  # type: ignore[arg-type]
        store.load()
        yield store


@pytest.fixture(params=["sqlite", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return MEMORY if request.param == "memory" else f"sqlite:///{tmp_path / 'trials.db'}"


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'trials.db'}"


def fill(store: TrialStore) -> None:
    store.start(0, "000", 11, "random")
    store.report(0, 1, 0.25)
    store.report(0, 2, 0.5)
    store.finish(0, Outcome({"value": 0.5, "params": 3.0}, 1.23456))
    store.start(1, "211", 12, "tpe")
    store.finish(1, Outcome({}, 2.0, "out of memory"))
    store.start(2, "110", 13, "tpe")
    store.report(2, 1, 0.125)
    store.finish(2, Outcome({"value": 0.125}, 0.5, stopped=True), fidelity=0.25)
    store.start(3, "201", 14, "tpe")


EXPECTED = [
    Trial(
        0,
        "000",
        TrialState.COMPLETE,
        0.5,
        {"value": 0.5, "params": 3.0},
        seed=11,
        seconds=1.2346,
        curve=(0.25, 0.5),
        values=(0.5,),
    ),
    Trial(1, "211", TrialState.FAIL, seed=12, reason="out of memory", seconds=2.0),
    Trial(
        2,
        "110",
        TrialState.PRUNED,
        0.125,
        {"value": 0.125},
        seed=13,
        fidelity=0.25,
        seconds=0.5,
        curve=(0.125,),
        values=(0.125,),
    ),
    Trial(3, "201", TrialState.RUNNING, seed=14),
]


def test_trials_are_what_was_put_in(url: str) -> None:
    with opened(url) as store:
        fill(store)
        assert list(store.trials) == EXPECTED
        assert len(store) == 4 and store[2] == EXPECTED[2]


def test_trials_survive_the_file(sqlite: str) -> None:
    with opened(sqlite) as store:
        fill(store)
        before = store.history()
    with opened(sqlite) as store:
        assert list(store.trials) == EXPECTED
        after = store.history()
    for name in ("codes", "scores", "failed", "pending"):
        assert np.array_equal(
            getattr(before, name), getattr(after, name), equal_nan=name == "scores"
        )


@pytest.mark.slow
def test_what_other_tools_of_optuna_see(sqlite: str) -> None:
    with opened(sqlite) as store:
        fill(store)
    study = optuna.load_study(study_name="run", storage=sqlite)
    assert study.direction == optuna.study.StudyDirection.MAXIMIZE
    assert study.best_trial.params == {"width": 16, "act": "relu", "bias": True}
    assert study.trials[1].state == optuna.trial.TrialState.FAIL
    assert study.trials[3].user_attrs == {"ncode": "201", "seed": 14, "ranker": "tpe"}
    study._storage.remove_session()
    study._storage._backend.engine.dispose()


def test_the_history_is_of_the_trials_below_a_number(url: str) -> None:
    with opened(url) as store:
        fill(store)
        history = store.history()
        assert history.scores[[0, 2]].tolist() == [0.5, 0.375] and history.scored.tolist() == [0, 2]
        assert history.failed.tolist() == [False, True, False, False]
        assert history.pending.tolist() == [False, False, False, True]
        assert len(store.history(2)) == 2 and len(store.history(0)) == 0
        with pytest.raises(ValueError, match="read-only"):
            history.scores[0] = 99


def test_what_is_minimised_is_turned_once(sqlite: str) -> None:
    with opened(sqlite, direction="min") as store:
        fill(store)
        assert store.history().scores[0] == -0.5 and store[0].value == 0.5
    with opened(sqlite, direction="min") as store:
        assert store.history().scores[0] == -0.5 and store[0].value == 0.5


@pytest.mark.slow
def test_the_history_grows_past_its_first_room(url: str) -> None:
    with opened(url) as store:
        codes = SPACE.sample(70, np.random.default_rng(0))
        for number, code in enumerate(codes):
            store.start(number, "".join(map(str, code)), number, "random")
            store.finish(number, Outcome({"value": float(number)}, 0.0))
        history = store.history()
        assert np.array_equal(history.codes, codes)
        assert history.scores.tolist() == list(range(70)) and not history.pending.any()


def test_attributes_survive(sqlite: str) -> None:
    with opened(sqlite) as store:
        store.set_attribute("a", {"x": [1, None, "é"]})
        store.set_attribute("a", {"x": [2]})
        store.set_attribute("long", "x" * 50_000)
    with opened(sqlite) as store:
        assert store.attributes == {"a": {"x": [2]}, "long": "x" * 50_000}


def test_a_started_trial_is_not_started_twice(url: str) -> None:
    with opened(url) as store:
        fill(store)
        assert store.start(0, "000", 99, "other") == EXPECTED[0]
        assert store.start(3, "201", 14, "tpe") == EXPECTED[3]
        assert len(store) == 4
        with pytest.raises(StoreError, match=r"trial 3 of run 'run' is of '201', not '200'"):
            store.start(3, "200", 14, "tpe")


def test_two_programs_on_one_run_are_noticed(sqlite: str) -> None:
    with opened(sqlite) as one, opened(sqlite) as other:
        other.start(0, "000", 1, "random")
        with pytest.raises(StoreError, match="trial 0 of run 'run' became number 1"):
            one.start(0, "111", 1, "random")


# -- pruning --------------------------------------------------------------------------------------

HALVING = PrunerSettings(name="successive_halving", min_resource=1, reduction_factor=2)


def train(store: TrialStore, number: int, curve: list[float]) -> tuple[int, bool]:
    """Epochs that were trained, and whether the pruner stopped there."""
    store.start(number, ["000", "100", "200", "010"][number % 4], number, "random")
    for step, value in enumerate(curve, start=1):
        if store.report(number, step, value):
            store.finish(number, Outcome({"value": value}, 1.0, stopped=True), step / 4)
            return step, True
    store.finish(number, Outcome({"value": curve[-1]}, 1.0))
    return len(curve), False


@pytest.mark.parametrize("direction", ["max", "min"])
def test_successive_halving_stops_the_worse(url: str, direction: str) -> None:
    sign = 1.0 if direction == "max" else -1.0
    with opened(url, direction=direction, pruner=make_pruner(HALVING)) as store:
        assert train(store, 0, [sign * v for v in (0.5, 0.6, 0.7, 0.8)]) == (4, False)
        assert train(store, 1, [sign * v for v in (0.1, 0.9, 0.9, 0.9)]) == (1, True)
        assert train(store, 2, [sign * v for v in (0.7, 0.8, 0.9, 0.95)]) == (4, False)
        assert [t.state for t in store.trials] == ["COMPLETE", "PRUNED", "COMPLETE"]
        assert store[1].fidelity == 0.25 and store[1].curve == (sign * 0.1,)


def test_a_trial_that_was_cut_short_is_stopped_where_it_would_have_been(sqlite: str) -> None:
    median = make_pruner(PrunerSettings(name="median"))

    def first(store: TrialStore) -> None:
        for number in range(5):  # the median pruner's start-up trials
            train(store, number, [0.5, 0.6, 0.7, 0.8])

    with opened(MEMORY, pruner=median) as store:
        first(store)
        expected = train(store, 5, [0.6, 0.5, 0.4, 0.3])
    with opened(sqlite, pruner=median) as store:
        first(store)
        store.start(5, "100", 5, "random")
        store.report(5, 1, 0.6)
        store.study.pruner = optuna.pruners.NopPruner()
        store.report(5, 4, 0.3)  # then it was killed
    with opened(sqlite, pruner=median) as store:
        assert store[5].state is TrialState.RUNNING
        assert train(store, 5, [0.6, 0.5, 0.4, 0.3]) == expected
        assert store[5].curve == (0.6, 0.5, 0.4) and store[5].state is TrialState.PRUNED


def test_a_report_that_is_no_number_is_passed_over(url: str) -> None:
    with opened(url, pruner=make_pruner(HALVING)) as store:
        store.start(0, "000", 1, "random")
        assert store.report(0, 1, float("nan")) is False
        assert store.report(0, 1, float("inf")) is False


def test_no_pruner_stops_nothing(url: str) -> None:
    with opened(url, pruner=make_pruner(PrunerSettings())) as store:
        assert [train(store, i, [1.0 - i / 9, 0.0])[1] for i in range(4)] == [False] * 4


# -- what is no store -----------------------------------------------------------------------------


def refused(url: str, *, create: bool) -> str:
    with pytest.raises(StoreError) as refusal, open_storage(url, create):
        pass
    assert "\n" not in str(refusal.value) and str(refusal.value).startswith(f"store '{url}'")
    return str(refusal.value)


@pytest.mark.parametrize("create", [True, False])
def test_a_file_that_is_no_database(tmp_path: Path, create: bool) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("these are my notes, and they are long enough for a header\n" * 20)
    before = path.read_bytes()
    assert "is no SQLite database" in refused(f"sqlite:///{path}", create=create)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_a_reader_leaves_a_foreign_database_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE mine (x)")
    before = path.read_bytes()
    assert "holds no runs" in refused(f"sqlite:///{path}", create=False)
    assert path.read_bytes() == before
    (tmp_path / "empty.db").touch()
    assert "holds no runs" in refused(f"sqlite:///{tmp_path / 'empty.db'}", create=False)
    assert (tmp_path / "empty.db").stat().st_size == 0


def test_a_reader_makes_no_file(tmp_path: Path) -> None:
    assert "no such file" in refused(f"sqlite:///{tmp_path / 'x' / 'none.db'}", create=False)
    assert not list(tmp_path.iterdir())
    assert not has_run(f"sqlite:///{tmp_path / 'none.db'}", "run")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "Could not parse"),
        ("nodialect://host/db", "nodialect"),
        ("postgresql+psycopg2://localhost/db", "driver"),
    ],
)
def test_a_url_that_leads_nowhere(url: str, message: str) -> None:
    assert message in refused(url, create=False)


def test_a_locked_database_is_one_line(sqlite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BUSY_SECONDS", 0.05)
    with opened(sqlite) as store:
        store.start(0, "000", 1, "random")
        with closing(sqlite3.connect(str(sqlite_path(sqlite)), isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            for attempt in (
                # not start(): Optuna itself tries that again for five seconds
                lambda: store.finish(0, Outcome({"value": 1.0}, 1.0)),
                lambda: store.report(0, 1, 0.5),
                lambda: store.set_attribute("x", 1),
            ):
                with pytest.raises(StoreError) as refusal:
                    attempt()
                assert "locked by another process; end it, or wait" in str(refusal.value)
                assert "\n" not in str(refusal.value)
            other.execute("ROLLBACK")
        assert [t.number for t in store.trials] == [0] and store[0].state is TrialState.RUNNING
        store.start(1, "100", 1, "random")
        store.finish(0, Outcome({"value": 1.0}, 1.0))
    with opened(sqlite) as store:
        assert [(t.number, t.value) for t in store.trials] == [(0, 1.0), (1, None)]


@pytest.mark.slow
def test_runs_of_one_store_do_not_mix(sqlite: str) -> None:
    with opened(sqlite, "one") as one:
        fill(one)
    with opened(sqlite, "two") as two:
        assert not len(two) and not two.begun
    with opened(sqlite, "one") as one:
        assert one.begun
        one.set_attribute("id", "x")
    assert studies(sqlite) == ["one", "two"]
    assert has_run(sqlite, "one") and not has_run(sqlite, "two"), "which has not begun"
    assert not has_run(sqlite, "three")


def test_a_place_with_a_name_that_means_something_in_a_url(tmp_path: Path) -> None:
    folder = tmp_path / "a b#c%41?d"
    url = RunFiles.of("x", folder, None).url
    with opened(url) as store:
        fill(store)
    assert studies(url) == ["run"] and (folder / "x" / "trials.db").is_file()


def test_sqlite_paths() -> None:
    assert sqlite_path("sqlite:///a/b.db") == Path("a/b.db")
    assert sqlite_path("sqlite:////a/b.db") == Path("/a/b.db")
    assert sqlite_path("sqlite:///a%20b.db") == Path("a b.db")
    assert sqlite_path("postgresql://host/db") is None and sqlite_path(MEMORY) is None


def test_a_password_in_a_url_is_never_shown() -> None:
    assert shown("postgresql://me:secret@host/db") == "postgresql://me:***@host/db"
    for url in ("sqlite:///runs/a%20b.db", "memory", "no url at all"):
        assert shown(url) == url
    with pytest.raises(StoreError) as caught:
        studies("postgresql+nodriver://me:secret@host/db")
    assert "secret" not in str(caught.value)
