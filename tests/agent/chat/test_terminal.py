"""The chat on a real terminal, with a search that runs meanwhile."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pexpect
import pyte
import pytest
from pexpect import fdpexpect
from warm import WarmProcess

from lm_searcher.agent.toolbox.processes import running
from lm_searcher.agent.toolbox.registry import call
from lm_searcher.agent.toolbox.workspace import Workspace

POSITIONS = [
    {"name": "width", "choices": list(range(36))},
    {"name": "act", "choices": ["relu", "gelu"]},
]
SPACE = {"name": "toy", "positions": POSITIONS}
SEARCH = {"space": "toy", "evaluator": "python", "function": "toy:train", "trials": 40}
SECONDS = 90.0
"""For what is to appear; most of it is the start of Python on a busy machine."""


Python = Callable[..., WarmProcess]


class Screen:
    """A terminal of 40 lines that a person types on and looks at."""

    def __init__(self, python: Python, command: list[str], env: dict[str, str]) -> None:
        ours, its = pty.openpty()
        termios.tcsetwinsize(its, (40, 120))
        self.process = python(*command, env=env, tty=its, imports=["lm_searcher.agent.chat.app"])
        os.close(its)
        self.child: Any = fdpexpect.fdspawn(ours)
        self._screen = pyte.Screen(120, 40)
        self._screen.write_process_input = self.child.send  # it says where the cursor is
        self._stream = pyte.ByteStream(self._screen)
        self._ended = False

    def shown(self) -> str:
        """What is on the screen now; a line that was wrapped is one."""
        with contextlib.suppress(pexpect.TIMEOUT):
            try:
                while True:
                    self._stream.feed(self.child.read_nonblocking(65536, timeout=0.1))
            except (pexpect.EOF, OSError):  # of a terminal whose other end is closed
                self._ended = True
        return "\n".join(line.rstrip() for line in self._screen.display).rstrip()

    def see(self, pattern: str) -> str:
        """Wait until it is on the screen; the whole screen then."""
        end = time.monotonic() + SECONDS
        while not re.search(pattern, text := self.shown()):
            assert time.monotonic() < end and not self._ended, f"no {pattern} in\n{text}"
        return text

    def left(self) -> str:
        """Wait until the chat has been left; the screen then."""
        end = time.monotonic() + SECONDS
        while not self._ended:
            text = self.shown()
            assert time.monotonic() < end, text
        return self.shown()

    def type(self, line: str, end: str = "\r") -> None:
        """As a person does, who is slower than a paste."""
        self.child.send(line)
        self.shown()
        time.sleep(0.2)
        self.child.send(end)


@pytest.fixture
def screen(
    workspace: Workspace, tmp_path: Path, script: Any, warm_python: Python
) -> Iterator[Callable[..., Screen]]:
    """Opens `lm-searcher chat`; all is ended afterwards."""
    (tmp_path / "toy.py").write_text(
        "import time\ndef train(config):\n    time.sleep(0.5)\n"
        "    return {'value': config['width']}\n"
    )
    opened: list[Screen] = []

    def open_chat(*replies: Any) -> Screen:
        command = ["-m", "lm_searcher.agent", "chat", "--function", "toy:train"]
        command += ["--folder", str(workspace.folder), "--model", f"scripted:{script(*replies)}"]
        env = os.environ | {"PYTHONPATH": str(tmp_path), "TERM": "xterm-256color"}
        opened.append(Screen(warm_python, command, env))
        return opened[-1]

    yield open_chat
    for each in opened:
        each.process.close()
        each.child.close()
    for name in running(workspace):
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
    here.see(r"talking to the script[\s\S]*\n>")
    here.type("find the widest")
    asked = here.see(r"Start the search 'toy-1'\? 40 trials\. \[y/N\]")
    assert "  trials = 40\n" in asked and '  function = "toy:train"\n' in asked
    assert not running(workspace)
    here.type("y")
    seen = here.see(r"It runs now\.[\s\S]*\ntoy-1 [1-9]\d*/40, best ")  # at the foot
    assert "\n  started toy-1: 40 trials of toy" in seen
    here.type("/watch")
    seen = here.see(r"\[[2-9]/40\] trial")
    assert "toy-1 (Ctrl-C: back to the chat" in seen and "incumbent" in seen
    here.child.send("\x03")
    here.see(r"\ntoy-1 is running: \d+ of 40 trials")
    here.type("how is it going?")
    here.see(r"→ status\(\)\n  toy-1 is running: .*best value[\s\S]*All is well\.")
    here.type("stop it")
    here.see(r"Stop the search 'toy-1'\? [\s\S]*\[y/N\]")
    here.type("y")
    here.see(r"It was stopped\.[\s\S]*\n>")
    call(workspace, "wait", {"run": "toy-1"})
    here.child.send("\x04")
    assert "Traceback" not in here.left()
    again = screen("Welcome back.")
    again.see(r"Session 'main' goes on\. Last:\n> stop it\n  It was stopped\.")
    again.type("/resume")
    again.see(r"Go on with 'toy-1' to trial 40\?")
    again.type("y")
    again.see(r"\ntoy-1 goes on from trial [\s\S]*\ntoy-1 \d+/40")
    again.type("/quit")
    again.see("toy-1 still running: leave running, stop or cancel")
    again.type("l")
    again.left()
    assert running(workspace) == ["toy-1"]


@pytest.mark.slow
def test_keys(screen: Callable[..., Screen]) -> None:
    here = screen("One.", "Two.")
    here.see(r"talking to the script[\s\S]*\n>")
    here.type("first\\")
    here.type("second")
    here.see(r"> first\n  second\n+One\.")
    here.type("", "\x03")
    here.see("Ctrl-D or /quit leaves")
    here.type("third", "\x1b\r")
    here.type("fourth")
    here.see(r"> third\n  fourth\n+Two\.")
    here.type("/spa", "\t")
    here.see("/spaces")
    here.type("")
    here.see("search spaces: ")
    here.type("/quit")
    here.left()
    again = screen("Three.")
    again.see(r"Last:\n> third\nfourth\n  Two\.[\s\S]*\n>")
    again.type("", "\x1b[A")  # what was typed last, in the chat before
    again.see("> /quit")
