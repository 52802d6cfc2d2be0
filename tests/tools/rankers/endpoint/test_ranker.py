from __future__ import annotations

import gzip
import json
import socket
import threading
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

import numpy as np
import pytest

from lm_searcher.spaces.errors import RankerError
from lm_searcher.spaces.history import History
from lm_searcher.spaces.ncode import to_ncodes
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.spaces.usage import Usage
from lm_searcher.tools.llm.retry import LONGEST, retry_after
from lm_searcher.tools.protocols import AskingRanker, Cancelled, Objective, Ranking
from lm_searcher.tools.rankers import make_ranker

SPACE = SearchSpace.of("grid", {f"p{i}": list("abcd") for i in range(5)})
POOL = SPACE.sample(200, np.random.default_rng(0))
CODES = SPACE.sample(40, np.random.default_rng(1))
HISTORY = History(CODES, np.linspace(0, 1, 40), np.zeros(40, bool), np.zeros(40, bool))
QUICK = {"timeout": 5.0, "backoff": 0.0, "attempts": 2, "fallback": "evolution"}

Made = Callable[..., Any]


@pytest.fixture
def made(loopback: Any) -> Made:
    """A ranker of the loopback server, with short waits."""

    def make(picks: int = 1, **settings: Any) -> Any:
        name = f"endpoint:m@{loopback.url}"
        return make_ranker(name, SPACE, QUICK | settings, Objective("acc", "max", picks))

    return make


def ranked(ranker: Any, seed: int = 0, history: History = HISTORY) -> Ranking:
    ranking = ranker.rank(POOL, history, seed=seed)
    assert np.array_equal(np.sort(ranking), np.arange(len(POOL)))
    return np.asarray(ranking)


def said(content: object, status: str = "200 OK", **usage: object) -> Callable[..., None]:
    """An answer with this content and this usage."""
    body = {"choices": [{"message": {"content": content}}]} | ({"usage": usage} if usage else {})
    text = json.dumps(body).encode()

    def answer(server: Any, to: socket.socket, request: dict[str, Any]) -> None:
        to.sendall(f"HTTP/1.1 {status}\r\nContent-Length: {len(text)}\r\n\r\n".encode() + text)

    return answer


def refusing(message: str, status: int = 400, code: str | None = None) -> Callable[..., None]:
    text = json.dumps({"error": {"message": message, "code": code}}).encode()

    def answer(server: Any, to: socket.socket, request: dict[str, Any]) -> None:
        to.sendall(f"HTTP/1.1 {status} No\r\nContent-Length: {len(text)}\r\n\r\n".encode() + text)

    return answer


def test_the_protocol(made: Made) -> None:
    assert isinstance(made(), AskingRanker)


def test_the_models_order_comes_first(made: Made, loopback: Any) -> None:
    loopback.answers["good"] = said('{"ranking": [4, 31, 0]}', prompt_tokens=9)
    ranker = made(picks=2)
    ranking = ranked(ranker)
    request = loopback.requests[0]
    listed = request["messages"][0]["content"].split("Candidates, numbered from 0:\n")[1]
    words = [line.split(": ")[1] for line in listed.splitlines()[:32]]
    shown = {", ".join(SPACE.decode(code).values()): code for code in to_ncodes(POOL)}  # type: ignore[arg-type]
    assert to_ncodes(POOL[ranking[:3]]) == [shown[words[i]] for i in (4, 31, 0)]
    fallback = ranker.fallback.rank(POOL, HISTORY, seed=0)
    assert ranking[3:].tolist() == [i for i in fallback if i not in ranking[:3]]
    assert request["model"] == "m" and request["temperature"] == 0
    assert request["response_format"]["json_schema"]["strict"] is True
    assert "Name at least 2 of the 32" in request["messages"][0]["content"]
    best = sum(code in to_ncodes(POOL[fallback[:16]]) for code in map(shown.get, words))
    assert best >= 16, "half of them are the fallback's best"


def test_the_papers_prompt(made: Made, loopback: Any) -> None:
    ranker = made(picks=3, prompt="ncode")
    ranking = ranked(ranker)
    prompts = [r["messages"][0]["content"] for r in loopback.requests]
    assert all("response_format" not in r for r in loopback.requests)
    candidates = [p.rpartition(",")[2].rstrip(";").split(";") for p in prompts]
    assert [len(c) for c in candidates] == [10, 9, 8], "one answer is one pick"
    picked = to_ncodes(POOL[ranking[:3]])
    assert picked[0] not in candidates[1] and set(picked[:2]).isdisjoint(candidates[2])
    assert prompts[0].startswith(f"{to_ncodes(CODES)[39]}|1.0000,")
    assert ranker.usage.asks == 3 and ranker.usage.decisions == 1


def test_a_partial_decision_of_the_papers_prompt_stands(made: Made, loopback: Any) -> None:
    loopback.script = iter(["good", "null", "null", "null"])
    ranker = made(picks=3, prompt="ncode")
    ranked(ranker)
    assert ranker.usage.fallbacks == 0 and ranker.usage.asks == 4


def test_the_model_is_told_the_reason_after_a_wrong_reply(made: Made, loopback: Any) -> None:
    loopback.script = iter(["repeated", "beyond the pool", "good"])
    ranker = made()
    ranked(ranker)
    first, second, third = (r["messages"] for r in loopback.requests)
    assert len(first) == 1 and second[0] == third[0] == first[0]
    assert second[1] == {"role": "assistant", "content": '{"ranking": [0, 1, 0]}'}
    assert "a candidate more than once" in second[2]["content"]
    assert "number 32, which is no candidate; they are 0 to 31" in third[2]["content"]
    assert ranker.usage == Usage(
        decisions=1, asks=3, reasks=2, prompt_tokens=210, completion_tokens=21
    )


def test_a_long_wrong_reply_is_not_sent_back(made: Made, loopback: Any) -> None:
    loopback.answers["long"] = said("x" * 300_000)
    loopback.script = iter(["long"])
    ranked(made())
    assert len(loopback.requests[1]["messages"][1]["content"]) == 400


def test_after_three_wrong_replies_the_fallback_decides(made: Made, loopback: Any) -> None:
    loopback.script = iter(["null", "repeated", "no JSON"])
    ranker = made()
    ranking = ranked(ranker)
    assert ranking.tolist() == ranker.fallback.rank(POOL, HISTORY, seed=0).tolist()
    assert ranker.usage.fallbacks == 1
    assert ranker.usage.reason == "3 wrong replies, the last: the answer is not JSON"
    ranked(ranker)
    assert ranker.usage.fallbacks == 0 and ranker.spent.fallbacks == 1


def test_a_dead_server_is_tried_once_a_decision(made: Made, loopback: Any) -> None:
    loopback.script = iter(["500"] * 5)
    ranker = made(attempts=3)
    for expected in ("HTTP 500 (3 attempts)", "HTTP 500 (1 attempt)", "HTTP 500 (1 attempt)", ""):
        ranked(ranker)
        assert ranker.usage.reason == expected
    loopback.script = iter(["500"] * 2)
    ranked(ranker)
    assert ranker.usage.retries == 2 and not ranker.usage.fallbacks


def test_refused_fields_are_left_out(made: Made, loopback: Any) -> None:
    loopback.answers["schema"] = refusing("'response_format' is not supported here")
    loopback.answers["tokens"] = refusing("use max_completion_tokens, not max_tokens", 422)
    loopback.script = iter(["schema", "tokens"])
    ranker = made()
    ranked(ranker)
    assert ranker.usage.asks == 1 and not ranker.usage.fallbacks
    sent = [set(r) - {"model", "messages"} for r in loopback.requests]
    every = {"response_format", "temperature", "seed", "max_tokens"}
    assert sent == [every, every - {"response_format"}, {"temperature", "seed"}]
    ranked(ranker, seed=1)
    assert set(loopback.requests[-1]) == {"model", "messages", "temperature", "seed"}
    assert len(ranker.notes) == 2 and "refuses response_format" in ranker.notes[0]


def test_a_server_that_refuses_everything(made: Made, loopback: Any) -> None:
    loopback.answers["good"] = refusing("no")
    ranker = made()
    ranked(ranker)
    assert len(loopback.requests) == 2
    assert ranker.usage.reason == "the server refuses the request (HTTP 400: no)"


def test_history_is_dropped_to_fit_and_this_is_said_once(made: Made, loopback: Any) -> None:
    ranker = made(context=1900)
    ranked(ranker)
    ranked(ranker, seed=1)
    prompt = loopback.requests[0]["messages"][0]["content"]
    assert "of the worse ones are left out" in prompt and "\n1: " in prompt
    assert len(ranker.notes) == 1 and "are not shown from here on" in ranker.notes[0]


def test_candidates_are_dropped_when_history_is_not_enough(made: Made, loopback: Any) -> None:
    ranker = made(context=1600)
    ranked(ranker)
    prompt = loopback.requests[0]["messages"][0]["content"]
    assert prompt.count("\n7: ") == 1 and "\n31: " not in prompt


def test_a_smaller_context_than_the_settings(made: Made, loopback: Any) -> None:
    loopback.answers["long"] = refusing("This model's maximum context length is 1000 tokens")
    loopback.script = iter(["long", "long"])
    ranker = made()
    ranked(ranker)
    sizes = [len(r["messages"][0]["content"]) for r in loopback.requests]
    assert sizes[0] > sizes[1] > sizes[2] and not ranker.usage.fallbacks
    assert "smaller than [ranker] context" in ranker.notes[0]


def test_tokens_and_cost_are_limited(made: Made, loopback: Any) -> None:
    prices = {"price_in": 1000.0, "price_out": 10_000.0}  # 70 and 7 tokens: 0.07 + 0.07
    for limit in ({"max_tokens_total": 231}, {"max_cost": 0.35}):
        loopback.requests.clear()
        ranker = made(**limit, **prices)
        ranker.spent = Usage(prompt_tokens=77, cost=0.14)  # by an earlier process
        reasons = []
        for seed in range(4):
            ranked(ranker, seed)
            reasons.append(ranker.usage.reason)
        assert reasons[:2] == ["", ""] and len(loopback.requests) == 2
        assert reasons[2] == reasons[3] and f"{next(iter(limit))} of" in reasons[2]
        assert ranker.spent.cost == pytest.approx(0.42)


@pytest.mark.parametrize("usage", [{}, {"prompt_tokens": -5}, {"prompt_tokens": "9", "x": 1}])
def test_tokens_are_estimated_if_none_are_reported(
    usage: dict[str, Any], made: Made, loopback: Any
) -> None:
    loopback.answers["good"] = said('{"ranking": [0]}', **usage)
    ranker = made()
    ranked(ranker)
    assert 500 < ranker.usage.prompt_tokens < 2500
    assert 5 < ranker.usage.completion_tokens < 50


@pytest.mark.parametrize("pool", [1, 2])
def test_no_request_without_a_decision(pool: int, made: Made, loopback: Any) -> None:
    for prompt in ("semantic", "ncode"):
        ranker = made(picks=4, prompt=prompt)
        assert len(ranker.rank(POOL[:pool], HISTORY, seed=0)) == pool
        assert ranker.usage == (Usage() if pool == 1 else ranker.usage)
        assert ranker.usage.asks == pool - 1


# -- beginning -----------------------------------------------------------------------------------


def test_a_successful_probe_is_counted(made: Made, loopback: Any) -> None:
    ranker = made()
    ranker.prepare()
    assert loopback.requests[0]["max_tokens"] == 1
    ranked(ranker)
    assert ranker.usage.asks == 2 and ranker.usage.prompt_tokens == 140
    ranked(ranker)
    assert ranker.usage.asks == 1


def test_no_server_at_the_url(made: Made) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        ranker: Any = make_ranker(f"endpoint:m@http://127.0.0.1:{port}/v1", SPACE, QUICK)
        with pytest.raises(RankerError, match=f"no server at 'http://127.0.0.1:{port}/v1'"):
            ranker.prepare()
        ranked(ranker)  # later it may come back
        assert "no server at" in ranker.usage.reason and ranker.usage.fallbacks == 1


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (refusing("SECRET", 401), r"refuses the key \(HTTP 401\)$"),
        (refusing("SECRET", 403), r"forbids the use of this model or key \(HTTP 403\)$"),
        (
            refusing("no m", 404),
            r"model 'm' at .* is not there: .* \(HTTP 404: no m\)$",
        ),
        (refusing("m?", 400, "model_not_found"), r"model 'm' at .* is not there: .*400: m\?\)$"),
        (refusing("x\x1b[31m\n" * 900, 404), r"HTTP 404: x \[31m x .{,190}\.\.\.\)$"),
    ],
)
def test_fatal_errors_end_at_once(
    answer: Callable[..., None], what: str, made: Made, loopback: Any
) -> None:
    loopback.answers["good"] = answer
    ranker = made()
    for call in (ranker.prepare, lambda: ranked(ranker)):
        loopback.requests.clear()
        with pytest.raises(RankerError, match=what) as error:
            call()
        assert len(loopback.requests) == 1 and error.value.__suppress_context__
        assert "\n" not in str(error.value)


def test_a_server_that_refuses_even_a_word(made: Made, loopback: Any) -> None:
    loopback.answers["good"] = refusing("Server is pinned to 'x'")
    with pytest.raises(RankerError, match=r"\(?HTTP 400: Server is pinned to 'x'"):
        made().prepare()
    assert [set(r) for r in loopback.requests] == [
        {"model", "messages", "max_tokens"},
        {"model", "messages"},
    ]


@pytest.mark.parametrize(("listed", "fatal"), [("other", True), ("m", False), (None, False)])
def test_a_server_that_fails_of_an_unknown_model(
    listed: str | None, fatal: bool, made: Made, loopback: Any
) -> None:
    """The model list is requested; the search continues if it is missing or has the model."""
    models = json.dumps({"data": [{"id": listed}]} if listed else [])

    def listing(server: Any, to: socket.socket, request: dict[str, Any]) -> None:
        assert "GET /v1/models" in server.headers[-1]
        to.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {len(models)}\r\n\r\n{models}".encode())

    loopback.answers["listing"] = listing
    loopback.script = iter(["500", "listing"])
    ranker = made()
    if fatal:
        with pytest.raises(RankerError, match=r"\(HTTP 500\), and unknown model 'm'.*: other\)"):
            ranker.prepare()
    else:
        ranker.prepare()
        assert "does not answer yet (HTTP 500); going on" in ranker.notes[0]


@pytest.mark.parametrize("fault", ["429", "500", "cut", "empty", "null"])
def test_a_transient_fault_of_the_probe(fault: str, made: Made, loopback: Any) -> None:
    loopback.script = iter([fault])
    ranker = made()
    ranker.prepare()
    ranked(ranker)
    assert not ranker.usage.fallbacks


# -- bounds --------------------------------------------------------------------------------------


def slow_headers(server: Any, to: socket.socket, request: dict[str, Any]) -> None:
    to.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while not server.stopping.wait(0.02):
        to.sendall(b"x")


def endless(head: bytes) -> Callable[..., None]:
    def answer(server: Any, to: socket.socket, request: dict[str, Any]) -> None:
        to.sendall(head + b"\r\n\r\n")
        while not server.stopping.is_set():
            to.sendall(b"y" * 65536)

    return answer


def test_headers_that_do_not_end(made: Made, loopback: Any) -> None:
    loopback.answers["slow headers"] = slow_headers
    loopback.script = iter(["slow headers"] * 2)
    ranker = made(timeout=0.3)
    ranked(ranker)
    assert ranker.usage.reason == "no answer within 0.3 s (2 attempts)"


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK", b"HTTP/1.1 500 Oh"])
def test_a_body_that_does_not_end_is_left_alone(head: bytes, made: Made, loopback: Any) -> None:
    loopback.answers["endless"] = endless(head)
    loopback.script = iter(["endless"])
    ranker = made()
    ranked(ranker)
    assert not ranker.usage.fallbacks
    assert (ranker.usage.reasks, ranker.usage.retries) == ((1, 0) if b"200" in head else (0, 1))


def test_a_body_that_would_unpack_to_very_much(made: Made, loopback: Any) -> None:
    packed = gzip.compress(b" " * 50_000_000)

    def bomb(server: Any, to: socket.socket, request: dict[str, Any]) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(packed)}\r\n\r\n"
        to.sendall(head.encode() + packed)

    loopback.answers["bomb"] = bomb
    loopback.script = iter(["bomb"])
    ranker = made()
    ranked(ranker)
    assert ranker.usage.reasks == 1
    assert "the answer is not JSON" in loopback.requests[1]["messages"][2]["content"]


def test_cancelling_ends_an_ask_under_way(made: Made, loopback: Any) -> None:
    loopback.script = iter(["slow"])
    ranker = made(timeout=200.0)
    threading.Timer(0.2, ranker.cancel).start()
    with pytest.raises(Cancelled):
        ranked(ranker)
    with pytest.raises(Cancelled):
        ranked(ranker)
    ranker.prepare()
    ranked(ranker)
    assert not ranker.usage.fallbacks


def test_cancelling_ends_a_wait(made: Made, loopback: Any) -> None:
    loopback.script = iter(["500"])
    ranker = made(backoff=200.0, retry_seconds=1000.0)
    threading.Timer(0.3, ranker.cancel).start()
    with pytest.raises(Cancelled):
        ranked(ranker)


def test_no_attempt_begins_after_the_seconds_allowed(made: Made, loopback: Any) -> None:
    loopback.script = iter(["500"])
    ranker = made(backoff=50.0, retry_seconds=1.0, attempts=9)
    ranked(ranker)  # does not wait the 25 seconds at least
    assert ranker.usage.reason == "HTTP 500 (1 attempt)"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("7", 7.0),
        ("0.5", 0.5),
        ("-3", 0.0),
        ("86400", LONGEST),
        ("inf", LONGEST),
        ("nan", None),
        ("soon", None),
        ("", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST),
        ("Fri, 99 Dec 2026 23:59:59 GMT", None),
    ],
)
def test_retry_after(header: str | None, seconds: float | None) -> None:
    assert retry_after(header) == seconds


def test_retry_after_a_date_soon() -> None:
    seconds = retry_after(formatdate(time.time() + 30, usegmt=True))
    assert seconds is not None and 20 < seconds <= 31
