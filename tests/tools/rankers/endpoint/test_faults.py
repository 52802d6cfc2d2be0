"""Sixty trials against a server that does everything wrong, in every order."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lm_searcher.agent.results.report import render
from lm_searcher.agent.results.result import Result, read_run
from lm_searcher.agent.search import Search
from lm_searcher.spaces.history import TrialState
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.spaces.tables import Table
from lm_searcher.tools.evaluators.table import TableEvaluator

SPACE = SearchSpace.of("grid", {f"p{i}": list("abcd") for i in range(5)})  # 1,024
CODES = SPACE.enumerate()
VALUES = np.random.default_rng(5).normal(size=(5, 4))[np.arange(5), CODES].sum(axis=1)
VALUE = TableEvaluator(Table(SPACE, CODES, {"acc": VALUES}, {"acc": "max"}), "acc")

ANSWERED = {"good", "empty", "no JSON", "no completion", "null", "wrong indices", "repeated"}
ANSWERED |= {"not in the pool", "beyond the pool", "a megabyte", "content type"}
"""Faults with an answer, which count as requests; after the others the request is sent again."""


def every_pair(symbols: Sequence[str]) -> list[str]:
    """A de Bruijn sequence: the shortest one in which each symbol follows each symbol."""
    left = {s: list(symbols) for s in symbols}
    path, done = [symbols[0]], []
    while path:  # Hierholzer's walk over all edges of the complete graph
        if left[path[-1]]:
            path.append(left[path[-1]].pop())
        else:
            done.append(path.pop())
    return done


def test_every_pair_is_in_the_sequence() -> None:
    found = every_pair("abcd")
    assert len(found) == 17 and len(set(itertools.pairwise(found))) == 16


def search(loopback: Any, folder: Path, prompt: str, **keywords: Any) -> Search:
    ranker = {"name": f"endpoint:some/model@{loopback.url}", "prompt": prompt, "key_env": "K"}
    waits = {"timeout": 0.5, "backoff": 0.0, "attempts": 2, "fallback": "evolution"}
    return Search(
        SPACE, VALUE, ranker=ranker | waits, **{"trials": 60, "folder": folder, **keywords}
    )


def check(result: Result, loopback: Any) -> None:
    """The counts agree with those of the server."""
    done = loopback.done
    assert len(result.trials) == 60 == len({t.ncode for t in result.trials})
    assert {t.state for t in result.trials} == {TrialState.COMPLETE}
    account = result.usage
    assert account.decisions == 55
    given_up = sum("attempt" in t.usage.reason for t in result.trials if t.usage)
    wrong = sum("wrong replies" in t.usage.reason for t in result.trials if t.usage)
    assert account.fallbacks == given_up + wrong
    # One request is made beforehand; on a busy machine it may be too late for its time limit, and
    # then is not counted. So may be any answer, and then it is asked for again.
    assert len(done) - (account.asks + account.retries + given_up) in (0, 1)
    assert account.asks <= sum(fault in ANSWERED for fault in done)
    assert account.decisions - account.fallbacks <= done.count("good")
    assert account.reasks <= account.asks - account.decisions + given_up


def check_unseen(key: str, folder: Path, *texts: str) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert any(path.name == "trials.db" for path in files)
    for path in files:
        assert key.encode() not in path.read_bytes(), path
    for text in texts:
        assert key not in text


@pytest.fixture
def key(loopback: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The key, in the environment; it is in each request's header and nowhere else."""
    name = "sk-Th1s-must-n0t-be-seen"
    monkeypatch.setenv("K", name)
    yield name
    assert all(f"authorization: Bearer {name}" in head for head in loopback.headers)
    assert not any(name in str(r["messages"][0]) for r in loopback.requests)


@pytest.mark.slow
@pytest.mark.parametrize("prompt", ["semantic", pytest.param("ncode", marks=pytest.mark.slow)])
def test_a_search_survives_each_fault(
    prompt: str,
    loopback: Any,
    key: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Each fault once, so that a retry succeeds, and three times, so that the fallback decides."""
    caplog.set_level(logging.DEBUG)
    events: list[str] = []
    faults = sorted(set(loopback.answers) - {"good"}, key=lambda fault: fault not in ANSWERED)
    once = itertools.chain.from_iterable((fault, "good") for fault in faults)
    often = itertools.chain.from_iterable([fault] * 3 for fault in faults)
    loopback.script = iter(["good", *once, *often])
    made = search(loopback, tmp_path, prompt, observe=lambda e: events.append(str(e)), name="run")
    result = made.run()
    check(result, loopback)
    assert set(loopback.done) == set(loopback.answers)
    assert result.usage.fallbacks > len(faults) // 2
    stored = read_run(made.files)
    assert stored.usage == result.usage
    out, err = capfd.readouterr()
    shown = [out, err, caplog.text, repr(made.problem.ranker), *events]
    check_unseen(key, tmp_path, *shown, str(stored.to_json()), render(stored))
    assert "HTTP Request" in caplog.text  # there was something to be seen
    assert max(len(str(t.usage)) for t in result.trials) < 400


@pytest.mark.slow
@pytest.mark.parametrize("prompt", ["semantic", pytest.param("ncode", marks=pytest.mark.nightly)])
def test_a_search_survives_every_order_of_two(
    prompt: str, loopback: Any, key: str, tmp_path: Path
) -> None:
    """Each fault or good answer directly after each other one."""
    script, seen = every_pair(list(loopback.answers)), set()
    while script:
        loopback.script = iter(["good", *script])
        loopback.done.clear()
        name = f"run-{len(script)}"
        result = search(loopback, tmp_path, prompt, name=name, seed=len(script)).run()
        check(result, loopback)
        seen |= set(itertools.pairwise(loopback.done[1:]))
        script = script[len(loopback.done) - 2 :] if len(loopback.done) <= len(script) else []
    assert seen >= set(itertools.product(loopback.answers, repeat=2))
    check_unseen(key, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_a_search_survives_any_order(seed: int, loopback: Any, key: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    faults = rng.choice(list(loopback.answers), 600)
    loopback.script = iter(["good", *faults])
    prompt = ("semantic", "ncode")[seed % 2]
    check(search(loopback, tmp_path, prompt, name="run", seed=seed).run(), loopback)
    check_unseen(key, tmp_path)
