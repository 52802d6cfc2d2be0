"""`lm-searcher replay` finds no difference in runs of all kinds, and names the first there is."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import Finished, lm_searcher
from crashes import not_synchronized
from fake_executor import known_as_fake
from fake_search import SPACE, files, found, measure, replayed, search, with_curve

from lm_searcher.agent.loop.replay import replay
from lm_searcher.agent.loop.request_files import Request, submit
from lm_searcher.agent.search import Search
from lm_searcher.agent.study.stored_run import stored_log, stored_run
from lm_searcher.spaces.errors import ConfigError
from lm_searcher.spaces.tables import Table
from lm_searcher.tools.evaluators.table import TableEvaluator

pytestmark = pytest.mark.slow

FORMAT_2 = Path(__file__).parents[1] / "study" / "data" / "run-of-format-2.tar.xz"


@pytest.fixture(autouse=True)
def known() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch, not_synchronized():
        known_as_fake(patch)
        yield


def replay_command(folder: Path, *more: str) -> Finished:
    return lm_searcher("replay", "run", "--folder", folder, *more)


# -- runs of all kinds -----------------------------------------------------------------------------


def by_hand(folder: Path) -> None:
    """With requests of every kind, one of which is refused."""
    for request in (
        Request(action="prune", position=1, option=4),
        *(Request(action="pick", ncode=ncode) for ncode in ("0000", "3333", "9999")),
        Request(action="widen", position=1, option=4),
    ):
        submit(files(folder), request)
    search(folder, fake={"workers": 2}).run()
    submit(files(folder), Request(action="pick", ncode="4444", extra=True))
    search(folder, fake={"workers": 2}).run()


def went_on(folder: Path) -> None:
    """With another ranker, budget, and number of places."""
    search(folder, trials=6).run()
    search(folder, trials=12, ranker="tpe", fake={"workers": 3}).run()
    search(folder, trials=15, memory={"enabled": False}, fake={"workers": 2, "batch": 3}).run()


def asked_and_told(folder: Path) -> None:
    with search(folder, None, trials=12) as mine:
        for n in (1, 3, 2, 4):
            for trial in reversed(mine.ask(n)):
                mine.tell(trial, measure(SPACE.decode(trial.ncode), trial.seed))
        mine.ask(2)


def asked_then_run(folder: Path) -> None:
    """What was asked for and not told is evaluated by the run."""
    with search(folder) as mine:
        mine.tell(mine.ask(2)[1], 1.0)
        mine.run()


SEVERAL: dict[str, Any] = {
    "objectives": [
        {"metric": "value", "direction": "max"},
        {"metric": "cost", "direction": "min"},
    ],
    "constraints": ["cost <= 11"],
}
KINDS: dict[str, Callable[[Path], object]] = {
    "one worker": lambda folder: search(folder, trials=20).run(),
    "4 workers": lambda folder: search(folder, trials=20, fake={"workers": 4}).run(),
    "20 workers": lambda folder: search(folder, trials=60, fake={"workers": 20}).run(),
    "batch": lambda folder: search(folder, fake={"workers": 3, "mode": "batch"}).run(),
    "losses": lambda folder: search(folder, fake={"workers": 4, "losses": 0.4}).run(),
    "objectives": lambda folder: search(folder, **SEVERAL, fake={"workers": 2}).run(),
    "pruner": lambda folder: search(
        folder, with_curve, pruner={"name": "median"}, trials=20, fake={"workers": 3}
    ).run(),
    "local": lambda folder: search(folder, ranker="local", trials=6, fake={"workers": 2}).run(),
    "gp": lambda folder: search(folder, ranker="gp", trials=6).run(),
    "requests": by_hand,
    "went on": went_on,
    "ask and tell": asked_and_told,
    "asked, then run": asked_then_run,
}


@pytest.mark.parametrize("name", KINDS)
def test_no_difference(tmp_path: Path, name: str) -> None:
    KINDS[name](tmp_path)
    whole, replay = found(tmp_path), replayed(tmp_path)
    assert replay.difference is None and not replay.skipped
    assert replay.decisions >= len(whole.asks)
    done = replay_command(tmp_path)
    assert (done.code, done.err) == (0, "") and f"{replay.decisions} decisions" in done.out


def test_a_run_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Costs that are known beforehand limit the candidates in the replay as they did in the run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.toml").write_text(
        'constraints = ["params_m <= 0.3"]\n'
        '[space]\nname = "nb201"\n[objective]\nmetric = "val_loss"\ndirection = "min"\n'
        '[evaluator]\nkind = "table"\npath = "builtin:digits-nb201"\n'
        '[budget]\ntrials = 15\n[ranker]\nname = "evolution"\n[executor]\nworkers = 2\n'
    )
    done = lm_searcher("run", "run.toml")
    assert done.code == 0, done.err
    done = lm_searcher("replay", "run", "--json")
    assert done.code == 0 and done.document["difference"] is None, done.err
    assert done.document["decisions"] >= 8


def test_a_run_of_an_earlier_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What came before its migration has no order; a trial that was under way ended later."""
    monkeypatch.chdir(tmp_path)
    with tarfile.open(FORMAT_2) as archive:
        archive.extractall(tmp_path, filter="data")
    (tmp_path / "runs").mkdir()
    (tmp_path / "snapshot").rename(tmp_path / "runs" / "earlier")
    done = lm_searcher("replay", "earlier")
    assert done.code == 2 and "lm-searcher migrate earlier" in done.err
    assert len(done.err.splitlines()) == 1
    Search.from_file("earlier.toml", overrides={"budget": {"trials": 28}}).run()
    document = lm_searcher("replay", "earlier", "--json").document
    assert document["skipped"] == 22 and document["decisions"] >= 6
    assert document["difference"] is None


def test_a_language_models_picks_are_not_recomputed(tmp_path: Path, loopback: Any) -> None:
    search(tmp_path, ranker=f"endpoint:model@{loopback.url}", trials=10).run()
    asked = len(loopback.requests)
    replay = replayed(tmp_path)
    assert replay.difference is None and replay.skipped == 7, "the first three are random"
    assert replay.decisions > 3, "and memory's"
    done = replay_command(tmp_path)
    assert done.code == 0 and "7 cannot be recomputed" in done.out
    assert len(loopback.requests) == asked, "nobody is asked again"


def test_an_evaluator_that_only_the_program_has(tmp_path: Path) -> None:
    codes = SPACE.enumerate()[::3]  # candidates are the table's rows
    table = Table(SPACE, codes, {"value": codes.sum(axis=1) * 1.0}, {"value": "max"})
    mine = Search(
        SPACE, TableEvaluator(table, "value"), trials=8, name="run", folder=tmp_path, ranker="tpe"
    )
    mine.run()
    with pytest.raises(ConfigError, match="evaluator of its own"):
        replayed(tmp_path)
    done = replay_command(tmp_path)
    assert done.code == 2 and len(done.err.splitlines()) == 1
    log = stored_log(mine.files)
    again = replay(mine.files, stored_run(mine.files), log, mine.problem)
    assert again.difference is None and again.decisions >= 8


# -- what differs ----------------------------------------------------------------------------------


def edit(folder: Path, table: str, where: str, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the document of one row."""
    with contextlib.closing(sqlite3.connect(folder / "run" / "trials.db")) as store, store:
        query = f"SELECT rowid, doc FROM lm_searcher_{table} WHERE {where}"
        row, text = store.execute(query).fetchone()
        change(document := json.loads(text))
        update = f"UPDATE lm_searcher_{table} SET doc = ? WHERE rowid = ?"
        store.execute(update, (json.dumps(document), row))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch, not_synchronized():
        known_as_fake(patch)
        search(folder, trials=20, fake={"workers": 3}).run()
    return folder


@pytest.fixture
def copied(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_an_altered_pick_is_named(copied: Path) -> None:
    """In the log and among the trials: the decision is another."""
    ask = found(copied).asks[5]
    where = f"doc LIKE '{{\"first\":{ask.first},%'"
    edit(copied, "event", where, lambda doc: doc["ncodes"].__setitem__(-1, "0404"))
    difference = replayed(copied).difference
    assert difference is not None
    assert (difference.trial, difference.what) == (ask.first, "trials")
    with contextlib.closing(sqlite3.connect(copied / "run" / "trials.db")) as store, store:
        last = ask.first + len(ask.ncodes) - 1
        store.execute("UPDATE lm_searcher_trial SET ncode = '0404' WHERE number = ?", (last,))
    difference = replayed(copied).difference
    assert difference is not None
    assert (difference.trial, difference.what) == (ask.first, "picks")
    assert difference.logged == [*ask.ncodes[:-1], "0404"]
    assert difference.recomputed == list(ask.ncodes)
    done = replay_command(copied)
    assert done.code == 1 and f"trial {ask.first}: picks differ" in done.out


def test_an_altered_decision_of_memory_is_named(copied: Path) -> None:
    key = next(iter(found(copied).decisions))

    def alter(document: dict[str, Any]) -> None:
        record = document["record"]
        record["option"] = record["choice"] = (record["option"] + 1) % 5

    edit(copied, "event", f"doc LIKE '%{key}%'", alter)
    difference = replayed(copied).difference
    assert difference is not None and difference.what == "memory"
    assert difference.logged != difference.recomputed
    done = replay_command(copied, "--json")
    assert done.code == 1 and done.document["difference"] == str(difference)


def test_an_altered_value_is_noticed_by_the_next_decision(copied: Path) -> None:
    trials = found(copied).trials
    edit(copied, "trial", "number = 4", lambda doc: doc["metrics"].update(value=99.0))
    difference = replayed(copied).difference
    assert difference is not None and 4 < difference.trial < len(trials)
    assert replay_command(copied).code == 1


def test_a_log_that_does_not_fit_is_one_line(copied: Path) -> None:
    with contextlib.closing(sqlite3.connect(copied / "run" / "trials.db")) as store, store:
        store.execute("DELETE FROM lm_searcher_event WHERE kind = 'ask' AND n = 3")
        store.execute("DELETE FROM lm_searcher_event WHERE kind = 'ask' AND n > 20 AND n < 30")
    done = replay_command(copied)
    assert done.code == 2 and len(done.err.splitlines()) == 1 and "edited" in done.err


def test_an_unknown_run_is_one_line(tmp_path: Path) -> None:
    done = replay_command(tmp_path)
    assert done.code == 2 and len(done.err.splitlines()) == 1
    search(tmp_path).run()
    done = lm_searcher("replay", "ruin", "--folder", tmp_path)
    assert done.code == 2 and len(done.err.splitlines()) == 1
