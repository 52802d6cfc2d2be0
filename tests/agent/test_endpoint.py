"""A search with a language model behind a URL, from the command line and from Python."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from lm_searcher.agent.cli import app
from lm_searcher.agent.loop.stopping import Interrupted
from lm_searcher.agent.search import Search

KEY = "sk-Th1s-must-n0t-be-seen"
ROWS = [f"{w},{a},{w / 100 + len(a)}" for w in (8, 16, 32, 64, 128) for a in ("a", "bb", "c", "d")]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loopback: Any) -> Path:
    """A working directory with a table of twenty architectures and a run file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("MY_KEY", KEY)
    (tmp_path / "t.csv").write_text("width,act,acc\n" + "\n".join(ROWS) + "\n")
    (tmp_path / "run.toml").write_text(
        '[evaluator]\nkind = "table"\npath = "t.csv"\nmetric = "acc"\n'
        f'[ranker]\nname = "endpoint:some/model@{loopback.url}"\nkey_env = "MY_KEY"\n'
        'timeout = 1\nattempts = 2\nbackoff = 0\nfallback = "evolution"\n'
        "price_in = 1\nprice_out = 2\n[budget]\ntrials = 15\n"
    )
    return tmp_path


def lm_searcher(*words: str) -> tuple[int, str, str]:
    out, err, code, before = io.StringIO(), io.StringIO(), 0, sys.argv
    sys.argv = ["lm-searcher", *words]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            app.main()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    finally:
        sys.argv = before
    return code, out.getvalue(), err.getvalue()


def refused(*words: str) -> str:
    code, out, err = lm_searcher(*words)
    assert code == 2 and out == "" and err.count("\n") == 1, (code, out, err)
    assert err.startswith("lm-searcher: ") and KEY not in err
    return err


def answering(server: Any, status: str, message: str) -> None:
    """From now on the server says this."""
    body = json.dumps({"error": {"message": message}})
    text = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
    server.answers["good"] = lambda server, to, request: to.sendall(text)


def test_a_run_says_what_was_asked(place: Path, loopback: Any) -> None:
    code, out, err = lm_searcher("run", "run.toml", "--name", "mine")
    assert (code, err) == (0, "")
    assert "10 of 10 decisions; 11 asks; 770 + 77 tokens; cost 0.0009" in out
    code, out, _ = lm_searcher("show", "mine", "--json")
    document = json.loads(out)
    assert document["account"]["asks"] == 11 and document["config"]["ranker"]["key_env"] == "MY_KEY"
    assert document["trials"][5]["account"]["asks"] == 2, "the first was asked beforehand"
    prompt = loopback.requests[1]["messages"][0]["content"]
    assert "The goal is the highest acc" in prompt and "- width: 8, 16, 32, 64, 128" in prompt
    lm_searcher("report", "mine", "-o", "report.html")
    assert "10 of 10 decisions; 11 asks" in Path("report.html").read_text()
    for path in place.rglob("*"):
        assert path.is_dir() or KEY.encode() not in path.read_bytes(), path


def test_mistakes_are_one_line_and_leave_nothing(
    place: Path, loopback: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(loopback, "404 Not Found", "The model `some/model` does not exist.")
    assert "model 'some/model' at 'http://127.0.0.1" in refused("run", "run.toml")
    answering(loopback, "401 Unauthorized", f"wrong key {KEY}")
    assert "refuses the key (HTTP 401)" in refused("run", "run.toml")
    loopback.answers["good"] = lambda *_: pytest.fail("asked")
    dead = "endpoint:m@http://127.0.0.1:9/v1"
    assert "no server at 'http://127.0.0.1:9/v1'" in refused("run", "run.toml", "--ranker", dead)
    assert "MODEL@URL" in refused("run", "run.toml", "--ranker", "endpoint:m")
    assert "takes no settings" in refused("run", "run.toml", "--ranker", "tpe")
    monkeypatch.delenv("MY_KEY")
    assert "variable MY_KEY holds no key" in refused("run", "run.toml")
    assert not (place / "runs").exists()


@pytest.mark.slow
def test_an_end_in_the_middle_loses_nothing(place: Path, loopback: Any) -> None:
    loopback.script = iter(["good"] * 4 + ["out"])
    loopback.answers["out"] = lambda server, to, request: to.sendall(
        b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
    )
    code, _, err = lm_searcher("run", "run.toml")
    assert code == 2 and err.count("\n") == 1 and "forbids" in err
    code, out, _ = lm_searcher("show", "run", "--json")
    assert [t["state"] for t in json.loads(out)["trials"]] == ["COMPLETE"] * 8
    assert lm_searcher("run", "run.toml")[0] == 0
    trials = json.loads(lm_searcher("show", "run", "--json")[1])["trials"]
    assert len({t["ncode"] for t in trials}) == 15


def test_a_server_that_dies_in_the_middle(place: Path, loopback: Any) -> None:
    """The fallback goes on, and says so line by line and at the end."""
    loopback.script = iter(["good"] * 4 + ["hung up"] * 100)
    code, out, err = lm_searcher("run", "run.toml")
    assert (code, err) == (0, "")
    assert out.count("(picked by the fallback: RemoteProtocolError") == 7
    assert "3 of 10 decisions" in out and "7 by the fallback" in out


def test_limits_end_the_asking_not_the_search(place: Path, loopback: Any) -> None:
    with open("run.toml", "a") as file:
        file.write("[executor]\nbatch = 2\n")
    text = (
        Path("run.toml").read_text().replace("timeout = 1", "timeout = 1\nmax_tokens_total = 200")
    )
    Path("run.toml").write_text(text)
    for trials in (11, 15):  # and what is spent counts when the run goes on
        code, out, _ = lm_searcher("run", "run.toml", "--trials", str(trials))
        assert code == 0 and out.count("max_tokens_total of 200 is reached") > 1
        asked = [r for r in loopback.requests if r["max_tokens"] > 1]
        assert len(asked) == 2, "77 beforehand, 77, 77"
    assert "Name at least 2 of the" in asked[0]["messages"][0]["content"]


def test_ctrl_c_while_it_waits_for_an_answer(place: Path, loopback: Any) -> None:
    """Leaves at once; the decision is made when the run goes on."""
    space = {"a": list("abcde"), "b": list("abcde")}
    ranker = {"name": f"endpoint:m@{loopback.url}", "fallback": "evolution", "timeout": 300.0}
    expected = Search(space, table(space), ranker=ranker, trials=12, store="memory").run()

    def stop(server: Any, to: Any, request: Any) -> None:
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
        server.stopping.wait()

    loopback.answers["stop"] = stop
    loopback.script = iter(["good"] * 4 + ["stop"])
    keywords: dict[str, Any] = {"ranker": ranker, "trials": 12, "name": "run", "folder": place}
    with pytest.raises(Interrupted):
        Search(space, table(space), **keywords).run()
    result = Search(space, table(space), **keywords).run()
    assert [t.ncode for t in result.trials] == [t.ncode for t in expected.trials]
    assert not result.usage.fallbacks


def table(space: dict[str, list[str]]) -> Any:
    """Looked up in this process."""
    from lm_searcher.spaces.space import SearchSpace
    from lm_searcher.spaces.tables import Table
    from lm_searcher.tools.evaluators.table import TableEvaluator

    made = SearchSpace.of("space", space)
    codes = made.enumerate()
    values = codes.sum(axis=1).astype(float)
    return TableEvaluator(Table(made, codes, {"v": values}, {"v": "max"}), "v")
