"""Users' requests: taken up at the next step, recorded, and the same after a crash."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lm_searcher.agent.context import Observer
from lm_searcher.agent.loop.memory import Findings, Memory, applied
from lm_searcher.agent.loop.request_files import Request, submit, waiting
from lm_searcher.agent.loop.requests import Requests
from lm_searcher.agent.results.result import Result, read_run
from lm_searcher.agent.search import Search
from lm_searcher.agent.study.paths import RunFiles
from lm_searcher.agent.study.records import Decision
from lm_searcher.agent.study.stop import StopReason
from lm_searcher.spaces.history import History, Trial
from lm_searcher.spaces.ncode import to_codes
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.spaces.subspace import Subspace
from lm_searcher.spaces.tables import Table
from lm_searcher.tools.evaluators.table import TableEvaluator

SPACE = SearchSpace.of("grid", {f"p{i}": [0, 1, 2, 3, 4] for i in range(4)})
CODES = SPACE.enumerate()
VALUES = -np.sum((CODES.astype(float) - 3) ** 2, axis=1)
MEMORY = {"start": 10, "interval": 5, "width": 1.0, "elites": 2, "stagnation": 12}


class Crash(Exception):
    """The process ends here."""


def search(folder: Path, observe: Observer = lambda event: None, **keywords: Any) -> Search:
    evaluator = TableEvaluator(Table(SPACE, CODES, {"acc": VALUES}, {"acc": "max"}), "acc")
    given = {"trials": 30, "ranker": "evolution", "memory": MEMORY, **keywords}
    return Search(SPACE, evaluator, name="run", folder=folder, observe=observe, **given)


def files(folder: Path) -> RunFiles:
    return RunFiles.of("run", folder, None)


def asking(folder: Path, requests: dict[int, Request], crash: int = -1) -> Observer:
    """Hands in a request when the trial of that number has finished; then crashes, if told to."""

    def observe(event: Trial | str) -> None:
        if isinstance(event, Trial) and event.state.finished:
            if event.number in requests:
                submit(files(folder), requests[event.number])
            if event.number == crash:
                raise Crash

    return observe


def facts(result: Result) -> list[Any]:
    return [
        [(t.number, t.ncode, t.value, t.seed) for t in result.trials],
        result.decisions,
        result.subspace.allowed,
    ]


REQUESTS = {
    4: Request(action="pick", ncode="0000"),
    9: Request(action="prune", position=0, option=3),
    16: Request(action="pick", ncode="4444"),
    20: Request(action="widen", position=0, option=3),
}


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 3])
def test_a_request_takes_effect_at_the_next_step(tmp_path: Path, batch: int) -> None:
    observe = asking(tmp_path, REQUESTS)
    result = search(tmp_path, observe, batch=batch).run()
    assert len(result.trials) == 30
    assert len({t.ncode for t in result.trials}) == 30
    after = {4: 5, 9: 10, 16: 17, 20: 21}
    if batch == 3:
        after = {4: 6, 9: 12, 16: 18, 20: 21}
    assert result.trials[after[4]].ncode == "0000"
    assert result.trials[after[16]].ncode == "4444"
    between = result.trials[after[9] : after[20]]
    assert all(t.ncode[0] != "3" for t in between if t.ncode != "4444")
    assert any(t.ncode[0] == "3" for t in result.trials[after[20] :])
    hand = [(d["action"], d["trial"]) for d in result.decisions if d.get("by") == "hand"]
    assert hand == [("prune", after[9]), ("widen", after[20])]
    assert not list(waiting(files(tmp_path).requests))


@pytest.mark.parametrize(
    "crash", [5, 20, *(pytest.param(n, marks=pytest.mark.slow) for n in (4, 9, 10, 11, 16, 25))]
)
def test_a_run_that_crashed_goes_on_as_one_that_did_not(tmp_path: Path, crash: int) -> None:
    whole = search(tmp_path / "a", asking(tmp_path / "a", REQUESTS)).run()
    with pytest.raises(Crash):
        search(tmp_path / "b", asking(tmp_path / "b", REQUESTS, crash)).run()
    left = {n: r for n, r in REQUESTS.items() if n > crash}
    again = search(tmp_path / "b", asking(tmp_path / "b", left)).run()
    assert facts(again) == facts(whole)
    assert facts(read_run(files(tmp_path / "b"))) == facts(whole)


@pytest.mark.slow
def test_a_crash_between_the_note_and_the_removal_of_its_file(tmp_path: Path) -> None:
    whole = search(tmp_path / "a", asking(tmp_path / "a", REQUESTS)).run()
    folder = tmp_path / "b"
    kept: list[tuple[Path, str]] = []

    def observe(event: Trial | str) -> None:
        kept.extend((p, p.read_text()) for p, _ in waiting(files(folder).requests))
        asking(folder, REQUESTS, crash=5)(event)
        kept.extend((p, p.read_text()) for p, _ in waiting(files(folder).requests))

    with pytest.raises(Crash):
        search(folder, observe).run()
    assert len(kept) == 1
    for path, text in kept:  # as if it had not been removed before the crash
        path.write_text(text)
    left = {n: r for n, r in REQUESTS.items() if n > 5}
    again = search(folder, asking(folder, left)).run()
    assert facts(again) == facts(whole)
    assert [t.ncode for t in again.trials].count("0000") == 1


def test_what_cannot_be_done_is_noted_with_its_reason(tmp_path: Path) -> None:
    search(tmp_path, trials=6).run()
    tried = read_run(files(tmp_path)).trials[2].ncode
    for request in (
        Request(action="pick", ncode=tried),
        Request(action="pick", ncode="99"),
        *(Request(action="prune", position=1, option=option) for option in range(5)),
    ):
        submit(files(tmp_path), request)
    (files(tmp_path).requests / "00.json").write_text("{}")  # none of ours
    result = search(tmp_path, trials=8).run()
    refused = [pick for pick in result.records.picks.values() if pick.refused]
    assert [pick.wish for pick in refused] == ["pick", "pick", "prune"]
    for pick, name in zip(refused, (tried, "99", "p1"), strict=True):
        assert f"'{name}'" in pick.refused
    assert result.subspace.allowed[1] == "4"
    assert len(result.trials) == 8


def test_an_extra_pick_goes_beyond_the_budget(tmp_path: Path) -> None:
    search(tmp_path, trials=6).run()
    for ncode in ("0000", "0001"):
        submit(files(tmp_path), Request(action="pick", ncode=ncode, extra=True))
    submit(files(tmp_path), Request(action="pick", ncode="0002"))
    result = search(tmp_path, trials=6).run()
    assert [t.ncode for t in result.trials[6:]] == ["0000", "0001"]
    assert result.stop is not None and result.stop.reason is StopReason.TRIALS
    assert result.stop.limit == 6
    assert search(tmp_path, trials=9).run().trials[8].ncode == "0002"


def test_an_extra_pick_does_not_change_why_a_search_ended(tmp_path: Path) -> None:
    ended = search(tmp_path, patience=4).run()
    assert ended.stop is not None and ended.stop.reason is StopReason.PATIENCE
    done = len(ended.trials)
    submit(files(tmp_path), Request(action="pick", ncode="0001", extra=True))
    after = search(tmp_path, trials=done, confirm={"top": 0}).run()
    assert [t.ncode for t in after.trials[done:]] == ["0001"]
    assert after.stop == ended.stop
    more = search(tmp_path, trials=done + 2).run()
    assert more.stop is not None and more.stop.reason is StopReason.TRIALS


@pytest.mark.slow
def test_an_extra_pick_of_a_run_that_was_cut_short(tmp_path: Path) -> None:
    with pytest.raises(Crash):
        search(tmp_path, asking(tmp_path, {}, crash=10)).run()
    submit(files(tmp_path), Request(action="pick", ncode="0000", extra=True))
    result = search(tmp_path, trials=11).run()
    assert [t.ncode for t in result.trials[11:]] == ["0000"]
    whole = search(tmp_path).run()
    assert len({t.ncode for t in whole.trials}) == len(whole.trials) == 30
    assert whole.trials[11].ncode == "0000"


def test_memory_does_not_undo_what_a_person_decided() -> None:
    codes = np.array([[i % 5, 0, 0, 0] for i in range(60)], np.uint8)
    scores = np.where(codes[:, 0] == 1, 0.0, 1.0) + np.arange(60) / 100
    none = np.zeros(60, bool)
    history = History(codes, scores, none, none)
    memory = Memory(start=5, interval=5, elites=1)
    full = Subspace.full(SPACE)
    pruned, decisions = memory.revise(history, Findings(full, []))
    assert [d.option for d in decisions if d.position == "p0"] == [1]
    assert pruned.pruned == [[0, 1]]
    kept, decisions = memory.revise(history, Findings(full, [], kept=frozenset({(0, 1)})))
    assert not decisions and kept.subspace == full

    request = Decision(trial=60, action="prune", position="p0", option=1, by="hand")
    subspace, stands = applied(pruned.subspace, pruned.pruned, request)
    assert subspace == pruned.subspace
    assert stands == []  # stagnation brings back the last of these


def test_barred_options_are_drawn_by_nobody() -> None:
    records = [
        Decision(trial=0, action="prune", position="p3", option=0),
        Decision(trial=1, action="prune", position="p3", option=2),
        Decision(trial=2, action="widen", position="p3", option=0),
    ]
    files = RunFiles("run", "memory", Path("nowhere"))
    requests = Requests.of(files, SPACE, {f"{r.trial}": r for r in records})
    assert (requests.barred, requests.kept) == ({(3, 2)}, {(3, 0)})
    pool = to_codes(["0000", "0002", "0004"], 4)
    assert requests.permitted(pool).tolist() == [[0, 0, 0, 0], [0, 0, 0, 4]]
    assert not requests.extra(3)
