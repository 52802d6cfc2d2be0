"""`lm-searcher train-ranker`: its files, Ctrl-C and kill -9, and weights in run files."""

from __future__ import annotations

import io
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from warm import WarmProcess

from lm_searcher.agent.cli.training_view import TrainingView, span
from lm_searcher.agent.search import Search
from lm_searcher.agent.settings.run_file import load_run_file
from lm_searcher.agent.settings.train_ranker import load_incontext
from lm_searcher.spaces.errors import ConfigError
from lm_searcher.tools.rankers.incontext.pretraining.settings import TrainConfig
from lm_searcher.tools.rankers.incontext.pretraining.training_run import PretrainingProgress

TINY = """
[run]
minutes = 10.0
save_every = 0.2
[model]
width = 16
option_width = 8
layers = 1
heads = 1
[data]
tokens = 300
candidates = 12
validation_tasks = 16
"""


def test_the_laptop_preset_is_what_the_shipped_weights_were_trained_with() -> None:
    assert load_incontext("laptop") == TrainConfig(
        Path("trained/incontext"), minutes=60, lr=1.5e-3, seed=1
    )


def test_the_gpu_preset() -> None:
    config = load_incontext("gpu", {"run": {"device": "cuda:1"}})
    assert config.device == "cuda:1" and config.bfloat16 and config.workers > 1
    assert not load_incontext("laptop").bfloat16


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text("")
    found = load_incontext(str(tmp_path / "x.toml"), {"run": {"out": tmp_path, "minutes": 3.0}})
    assert found == TrainConfig(tmp_path, minutes=3.0)


MISTAKES = {
    "[run]\nmintes = 3": "unknown key in [run] 'mintes'; did you mean 'minutes'?",
    "[rum]\nseed = 3": "unknown key in the file 'rum'; did you mean 'run'?",
    "[run]\nminutes = 0": "[run] minutes = 0: input should be greater than 0",
    "[run]\nminutes = 'x'": "[run] minutes = 'x'",
    "[run]\nseed = -1": "[run] seed = -1",
    "[run]\ndevice = 'tpu'": "[run] device: 'tpu'; accepted: cpu, cuda",
    "[run]\nprecision = 'fp8'": "'float32' or 'bfloat16'",
    "[model]\nheads = 3": "width = 112 is no multiple of heads = 3",
    "[optimizer]\naverage = 1.0": "[optimizer] average = 1.0: input should be less than 1",
    "[optimizer]\nlr = inf": "[optimizer] lr = inf",
    "[data]\nvalidation_tasks = 20": "input should be a multiple of 16",
    "[data]\nworkers = -1": "[data] workers = -1",
    "data = 3": "[data] = 3",
    "x": "is no valid TOML",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_mistakes_are_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "t.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as refusal:
        load_incontext(str(path))
    message = str(refusal.value)
    assert MISTAKES[text] in message and "\n" not in message
    assert message.startswith(f"training file '{path}'")


def test_a_preset_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown preset 'laptp'; did you mean 'laptop'"):
        load_incontext("laptp")
    with pytest.raises(ConfigError, match="No such file"):
        load_incontext(str(tmp_path / "none.toml"))


def test_weights_are_for_the_local_ranker(tmp_path: Path) -> None:
    text = (
        "[space]\nname = 'nb201'\n[evaluator]\nkind = 'python'\nfunction = 'math:sin'\n"
        f"[ranker]\nname = 'local'\nweights = '{tmp_path}/w'\n"
    )
    path = tmp_path / "r.toml"
    path.write_text(text)
    assert load_run_file(path).ranker.settings == {"weights": tmp_path / "w"}
    with pytest.raises(ConfigError, match=r"ranker weights '.*/w': no config.json"):
        Search.from_file(path)
    with pytest.raises(ConfigError, match=r"weights is a setting of ranker 'local', .* is 'tpe'"):
        load_run_file(path, {"ranker": {"name": "tpe"}})
    with pytest.raises(ConfigError, match="weights is a setting of ranker 'local'"):
        Search({"a": [1, 2]}, ranker="tpe", weights="w")


REGRET = {"all": 0.25, "value all": 0.125}


def test_the_view_writes_lines_where_there_is_no_terminal() -> None:
    out = io.StringIO()
    with TrainingView(Console(file=out)) as view:
        view(PretrainingProgress(10, 200, 2.5, 1e-3, 20.0, 7180.0))
        view(PretrainingProgress(11, 220, 2.5, 1e-3, 22.0, 7178.0))  # too soon after the first
        view(PretrainingProgress(12, 240, 2.5, 1e-3, 24.0, 0.0, REGRET))
    assert out.getvalue().splitlines() == [
        "step 10, 200 tasks, loss 2.500, 0.5 steps/s, 2.0 h left",
        "held-out pick regret at step 12: 0.250 by the best head, 0.125 by the value head",
        "step 12, 240 tasks, loss 2.500, 0.5 steps/s, 0 s left",
    ]


def test_the_view_draws_a_bar_on_a_terminal() -> None:
    out = io.StringIO()
    with TrainingView(Console(file=out, force_terminal=True, width=120)) as view:
        view(PretrainingProgress(10, 200, 2.5, 1e-3, 30.0, 90.0))
    assert "25%" in out.getvalue() and "2 min left" in out.getvalue()


def test_spans() -> None:
    assert [span(s) for s in (12.4, 600, 7200)] == ["12 s", "10 min", "2.0 h"]


# -- the command, in a process of its own ---------------------------------------------------------


Python = Callable[..., WarmProcess]


class Training:
    """`lm-searcher train-ranker incontext`, in a process group of its own."""

    def __init__(self, python: Python, folder: Path, *flags: str) -> None:
        (folder / "tiny.toml").write_text(TINY)
        self.folder = folder
        words = ["train-ranker", "incontext", "tiny.toml", "--out", "o", *flags]
        self.process = python(
            *("-m", "lm_searcher.agent", *words),
            cwd=folder,
            imports=["lm_searcher.tools.rankers.incontext.pretraining.train"],
            new_session=True,
        )

    def await_checkpoint(self) -> None:
        path = self.folder / "o" / "state.pt"
        before = path.stat().st_mtime_ns if path.exists() else 0
        while not path.exists() or path.stat().st_mtime_ns == before:
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.05)

    def end(self) -> tuple[int | None, str, str]:
        out, err = self.process.communicate()
        return self.process.returncode, out, err


@pytest.mark.slow
def test_kill_and_go_on(tmp_path: Path, warm_python: Python) -> None:
    for pause in (0.0, 0.13, 0.31):  # at, and at any time after, a checkpoint
        training = Training(warm_python, tmp_path)
        training.await_checkpoint()
        time.sleep(pause)
        training.process.kill()
        training.end()
    code, out, err = Training(warm_python, tmp_path, "--minutes", "0.001").end()
    assert (code, err) == (0, ""), err
    assert "held-out pick regret at step" in out and "wrote o/weights" in out
    run_file = (
        "[evaluator]\nkind = 'table'\npath = 't.csv'\nmetric = 'y'\n"
        "[ranker]\nname = 'local'\nweights = 'o/weights'\n[budget]\ntrials = 12\n"
    )
    (tmp_path / "job.toml").write_text(run_file)
    rows = [f"{a},{b},{a * b}" for a in range(5) for b in range(5)]
    (tmp_path / "t.csv").write_text("a,b,y\n" + "\n".join(rows) + "\n")
    found = warm_python("-m", "lm_searcher.agent", "run", "job.toml", "--json", cwd=tmp_path)
    out, err = found.communicate()
    assert found.returncode == 0, err
    assert json.loads(out)["config"]["ranker"]["weights"] == "o/weights"


@pytest.mark.slow
def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path: Path, warm_python: Python) -> None:
    training = Training(warm_python, tmp_path)
    training.await_checkpoint()
    second = Training(warm_python, tmp_path)  # meanwhile the folder is taken
    code, _, err = second.end()
    assert code == 2 and err.count("\n") == 1 and "another process trains there" in err
    os.killpg(training.process.pid, signal.SIGINT)  # as a terminal does: the workers get it too
    code, _, err = training.end()
    assert code == 130 and "Traceback" not in err
    command = "lm-searcher train-ranker incontext tiny.toml --out o"
    assert err.splitlines()[-1] == f"stopped; go on from the last checkpoint with: {command}"
