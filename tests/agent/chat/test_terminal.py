"""The chat on a real terminal, with a search that runs meanwhile."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest

from lm_searcher.agent.toolbox.background import running
from lm_searcher.agent.toolbox.workspace import Workspace

SPACE = {"name": "toy", "positions": [{"name": "width", "choices": list(range(30))}]}
SEARCH = {"space": "toy", "evaluator": "python", "function": "toy:train", "trials": 30}
ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[ -/]*[@-~]|\][^\x07]*\x07|[=>()][0-9A-Z]?)|\r")


class Screen:
    """A terminal that a person types on; it waits for what is to appear."""

    def __init__(self, command: list[str], env: dict[str, str]) -> None:
        self.child: Any = pexpect.spawn(
            command[0], command[1:], env=env, dimensions=(40, 120), encoding="utf-8", timeout=60
        )

    def see(self, *patterns: str) -> str:
        """Wait for each in turn; the text without escape codes from one to the next."""
        seen = ""
        for pattern in patterns:
            self.child.expect(pattern)
            seen += ESCAPES.sub("", self.child.before + self.child.after)
        return seen

    def type(self, line: str, end: str = "\r") -> None:
        """As a person does: not before the prompt is there."""
        self.child.send(line)
        time.sleep(0.2)  # a paste and Enter in one would be taken as several lines
        self.child.send(end)


@pytest.fixture
def screen(workspace: Workspace, tmp_path: Path, script: Any) -> Iterator[Callable[..., Screen]]:
    """Opens `lm-searcher chat`; all is ended afterwards."""
    (tmp_path / "toy.py").write_text(
        "import time\ndef train(config):\n    time.sleep(0.5)\n"
        "    return {'value': config['width']}\n"
    )
    opened: list[Screen] = []

    def open_chat(*replies: Any) -> Screen:
        command = [sys.executable, "-m", "lm_searcher.agent", "chat", "--function", "toy:train"]
        command += ["--folder", str(workspace.folder), "--model", f"scripted:{script(*replies)}"]
        env = os.environ | {"PYTHONPATH": str(tmp_path), "TERM": "xterm-256color"}
        opened.append(Screen(command, env))
        return opened[-1]

    yield open_chat
    for each in opened:
        each.child.close(force=True)
    for name in running(workspace):
        from lm_searcher.agent.toolbox.tools import call

        call(workspace, "stop", {"run": name})
        call(workspace, "wait", {"run": name, "seconds": 30})


@pytest.mark.slow
def test_a_search_by_talking(screen: Callable[..., Screen], workspace: Workspace) -> None:
    """Ask, confirm, watch, ask again while it runs, stop, leave, come back."""
    here = screen(
        [("define_space", SPACE), ("start_search", SEARCH)],
        "It **runs** now.",
        ("status", {}),
        "All is well.",
        ("stop", {}),
        "It was stopped.",
    )
    here.see("talking to the script")
    here.type("find the widest")
    asked = here.see(r"\[y/N\]")
    assert "trials = 30" in asked and 'function = "toy:train"' in asked
    assert not running(workspace)
    here.type("y")
    here.see("started toy-1", "runs")
    here.see(r"toy-1 \d+/30")  # at the foot of the prompt
    here.type("/watch")
    seen = here.see("toy-1 .Ctrl-C: back to the chat", r"\[[2-9]/30\] trial")
    assert "incumbent" in seen
    here.child.sendintr()
    here.see("toy-1 is running")
    here.type("how is it going?")
    here.see("toy-1 is running: .* of 30 trials, best value", "All is well.")
    here.type("stop it")
    here.see(r"Stop the search 'toy-1'\? .*\[y/N\]")
    here.type("y")
    here.see("It was stopped.")
    here.child.sendeof()
    here.child.expect(pexpect.EOF)
    assert not running(workspace)
    again = screen("Welcome back.")
    again.see("goes on. Last:", "> stop it", "It was stopped.")
    again.type("/resume")
    again.see(r"Go on with 'toy-1' to trial 30\?")
    again.type("y")
    again.see("toy-1 goes on from trial")
    again.type("", "\x04")
    again.see("toy-1 still running: leave running, stop or cancel")
    again.type("l")
    again.child.expect(pexpect.EOF)
    assert running(workspace) == ["toy-1"]


@pytest.mark.slow
def test_keys(screen: Callable[..., Screen]) -> None:
    here = screen("One.", "Two.")
    here.see("talking to the script")
    here.type("first \\")
    here.type("second")
    here.see("One.")
    here.type("", "\x03")
    here.see("Ctrl-D or /quit leaves")
    here.type("third", "\x1b\r")
    here.type("fourth")
    here.see("Two.")
    here.type("/spa", "\t")
    here.see("/spaces")
    here.child.send("\r")
    here.see("1 search spaces")
    here.type("/quit")
    here.child.expect(pexpect.EOF)
    again = screen("Three.")
    seen = again.see("> third", "fourth", "Two.")
    assert seen
    again.child.send("\x1b[A")  # what was typed last, in the chat before
    again.see("/quit")
