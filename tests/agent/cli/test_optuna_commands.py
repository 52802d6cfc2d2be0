"""`lm-searcher dashboard` and `lm-searcher export`."""

from __future__ import annotations

import json
import signal
import socket
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from stores import fill, open_store
from warm import WarmProcess

from lm_searcher.agent.cli import app
from lm_searcher.agent.study.paths import RunFiles

pytestmark = pytest.mark.slow  # Optuna makes its tables, and the dashboard is imported


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with two runs."""
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        with open_store(RunFiles.of(name, Path("runs"), None).url, name) as store:
            fill(store)
    return tmp_path


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Runs a command to its end; its output, or its one line of errors with exit code 2."""

    def call(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["lm-searcher", *words])
        with pytest.raises(SystemExit) as ended:
            app.main()
        printed = capsys.readouterr()
        if ended.value.code == 2:
            [line] = printed.err.splitlines()
            return line
        assert not ended.value.code and not printed.err, printed.err
        return printed.out

    return call


def test_export(place: Path, command: Callable[..., str]) -> None:
    assert "4 trials" in command("export", "one", "--optuna", "sqlite:///out.db")
    document = json.loads(command("export", "two", "--optuna", "sqlite:///out.db", "--json"))
    assert document == {"run": "two", "optuna": "sqlite:///out.db", "trials": 4}
    assert optuna.get_all_study_names("sqlite:///out.db") == ["one", "two"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("export", "one"), "--optuna URL"),
        (("export", "none", "--optuna", "sqlite:///out.db"), "runs/none/trials.db"),
        (("export", "one", "--optuna", "nonsense"), "'nonsense'"),
        (("dashboard", "none"), "runs/none/trials.db"),
        (("dashboard", "../one"), "../one"),
        (("dashboard", "--folder", "empty"), "there are no runs in 'empty'"),
        (("dashboard", "--store", "sqlite:///none.db"), "no such file"),
        (("dashboard", "--host", "256.0.0.1"), "256.0.0.1:8080"),
        (("dashboard", "--port", "70000"), "--port"),
    ],
)
def test_what_is_refused(
    place: Path, command: Callable[..., str], words: tuple[str, ...], said: str
) -> None:
    line = command(*words)
    assert line.startswith("lm-searcher: ") and said in line
    assert not (place / "out.db").exists()


def test_a_port_in_use(place: Path, command: Callable[..., str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert "in use" in command("dashboard", "--port", port)


def test_without_the_extra(
    place: Path, command: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    assert "pip install 'lm-searcher[dashboard]'" in command("dashboard")


@pytest.mark.parametrize("names", [(), ("two",)])
def test_the_dashboard_is_served_until_ctrl_c(
    place: Path, warm_python: Callable[..., WarmProcess], names: tuple[str, ...]
) -> None:
    words = ("-m", "lm_searcher.agent", "dashboard", *names, "--port", "0")
    process = warm_python(*words, cwd=place)
    assert process.stdout is not None
    url = process.stdout.readline().split()[0]
    assert url.startswith("http://127.0.0.1:")
    with urllib.request.urlopen(url.replace("/dashboard/", "/api/studies"), timeout=60) as reply:
        studies: list[dict[str, Any]] = json.load(reply)["study_summaries"]
    assert [study["study_name"] for study in studies] == list(names or ("one", "two"))
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    assert process.communicate() == ("", "")
