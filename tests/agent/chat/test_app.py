"""The chat with its lines from a pipe, from the command line."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lm_searcher.agent.chat.graph import DECLINED, Chat
from lm_searcher.agent.chat.model import ChatModel
from lm_searcher.agent.chat.session import Session, open_saver
from lm_searcher.agent.cli import app
from lm_searcher.agent.toolbox.workspace import Workspace

SEARCH = ("start_search", {"evaluator": "table", "table": "grid.csv", "metric": "acc", "trials": 5})


@pytest.fixture
def chat(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Runs `lm-searcher chat` on these lines; what it printed."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(lines: str, *words: str, code: int = 0) -> str:
        out, err = io.StringIO(), io.StringIO()
        monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
        given = ["lm-searcher", "chat", "--folder", str(workspace.folder), *words]
        monkeypatch.setattr(sys, "argv", given)
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            pytest.raises(SystemExit) as left,
        ):
            app.main()
        assert (left.value.code or 0) == code, err.getvalue()
        return out.getvalue() + err.getvalue()

    return run


def test_without_a_model(chat: Callable[..., str], workspace: Workspace) -> None:
    out = chat(
        "/spaces\nwhat is the status?\n/serach\n/define s --positions \\\n"
        '\'[{"name": "a", "choices": [1, 2]}]\'\n/status\n/help describe\n/quit\n/spaces\n'
    )
    lines = out.splitlines()
    assert "/help lists them" in lines[0] and "--model MODEL" in lines[0]
    assert out.count(" search spaces: ") == 1, "nothing after /quit"
    assert sum("Nearest command: /status" in line for line in lines) == 1
    assert any("unknown command 'serach'; did you mean 'search'" in line for line in lines)
    assert "defined s: 1 positions" in out and "there is no run yet" in out
    assert "/describe <space>" in lines and (workspace.folder / "spaces" / "s.toml").exists()


@pytest.mark.parametrize("answer", ["n", "", "maybe"])
def test_a_search_that_is_declined(
    chat: Callable[..., str], workspace: Workspace, answer: str
) -> None:
    command = "/search --evaluator table --table grid.csv --metric acc --trials 5"
    out = chat(f"{command}\n{answer}\n/status\n")
    assert "  trials = 5\n" in out and "Start the search 'grid-1'? 5 trials. [y/N]" in out
    assert "not done" in out and "there is no run yet" in out and not workspace.names()


def test_with_a_model(chat: Callable[..., str], script: Any, workspace: Workspace) -> None:
    path = script("Hello there.", SEARCH, "As you wish.", ("list_spaces", {}), "Bye.")
    out = chat("hi\nsearch\nn\n", "--model", f"scripted:{path}", "--session", "mine")
    assert "Hello there.\n" in out and "→ start_search(evaluator=" in out
    assert "Start the search 'grid-1'? 5 trials. [y/N]" in out
    assert f"  {DECLINED.split('.')[0]}" in out and "As you wish." in out
    out = chat("", "--model", f"scripted:{path}", "--session", "mine")
    assert "Session 'mine' goes on. Last:\n> search\n  As you wish.\n" in out
    assert "Last:" not in chat("", "--model", f"scripted:{path}", "--session", "other")


def test_a_question_that_a_crash_left_open(
    chat: Callable[..., str], script: Any, workspace: Workspace
) -> None:
    space = {"name": "mine", "positions": [{"name": "a", "choices": [1, 2]}], "replace": True}
    (workspace.folder / "spaces").mkdir()
    path = workspace.folder / "spaces" / "mine.toml"
    path.touch()
    model = ChatModel.open(f"scripted:{script(('define_space', space))}", None, None)
    with open_saver(workspace, "main") as saver:
        session = Session(Chat(workspace, model, lambda: ""), saver, "main")
        list(session.say("define it"))
    out = chat("y\n", "--model", f"scripted:{script('There it is.')}")
    assert "Overwrite the space 'mine'? [y/N]" in out and "There it is." in out
    assert "choices = [1, 2]" in path.read_text()


def test_a_server_that_is_not_there(chat: Callable[..., str]) -> None:
    out = chat("hello\n/spaces\n", "--model", "m", "--base-url", "http://127.0.0.1:9/v1")
    lines = out.splitlines()
    assert any("chat model: no answer from 'http://127.0.0.1:9/v1'" in line for line in lines)
    assert any("slash commands work" in line for line in lines) and " search spaces: " in out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--base-url", "http://localhost/v1"], "want --model"),
        (["--session", "../x"], "--session '../x'; accepted"),
        (["--model", "scripted:none.json"], "cannot be read"),
        (["--model", "m", "--key-env", "NOT_SET"], "NOT_SET holds no key"),
    ],
)
def test_mistakes(chat: Callable[..., str], words: list[str], expected: str) -> None:
    out = chat("", *words, code=2)
    assert out.count("\n") == 1 and out.startswith("lm-searcher: ") and expected in out


def test_ctrl_c_ends_the_answer_not_the_chat(
    chat: Callable[..., str], loopback: Any, streams: Any
) -> None:
    def endless(server: Any, to: Any, request: Any) -> None:
        streams("Well", finish=None, done=False)(server, to, request)
        threading.Timer(1.5, os.kill, (os.getpid(), signal.SIGINT)).start()
        server.stopping.wait()

    loopback.answers |= {"endless": endless, "end": streams("Here I am.")}
    loopback.script = iter(["endless", "end"])
    out = chat("hello\nare you there?\n", "--model", "m", "--base-url", loopback.url)
    assert "Well\n(stopped)\nHere I am.\n" in out


def test_nothing_secret_is_kept(
    chat: Callable[..., str],
    loopback: Any,
    streams: Any,
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-Th1s-must-n0t-be-seen")
    loopback.answers["hi"] = streams("Hi.")
    loopback.script = iter(["hi"])
    words = ["--model", "m", "--base-url", loopback.url, "--key-env", "MY_KEY"]
    assert "sk-Th1s" not in chat("hello\n", *words)
    for path in workspace.folder.rglob("*"):
        assert path.is_dir() or b"sk-Th1s" not in path.read_bytes(), path


def test_the_file_of_what_was_typed_is_ones_own(tmp_path: Path) -> None:
    from lm_searcher.agent.chat.terminal import private

    assert private(tmp_path / "history").stat().st_mode & 0o077 == 0
