"""`lm-searcher train-ranker lm` and `adapt`: their files, mistakes, kill -9 and Ctrl-C."""

from __future__ import annotations

import io
import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from warm import WarmProcess

from lm_searcher.agent.cli.training_view import TrainingView, lm_line, lm_news
from lm_searcher.agent.search import Search
from lm_searcher.agent.settings.run_file import load_run_file
from lm_searcher.agent.settings.train_lm import load_lm
from lm_searcher.spaces.errors import ConfigError
from lm_searcher.tools.llm.huggingface import load
from lm_searcher.tools.rankers.lm.finetuning.measure import PickMetrics
from lm_searcher.tools.rankers.lm.finetuning.progress import FinetuningProgress
from lm_searcher.tools.rankers.lm.finetuning.settings import PRESETS, LMTrainConfig, TableChoice
from lm_searcher.tools.rankers.lm.finetuning.tiny_model import from_scratch

MINE = """
[run]
device = "cpu"
threads = 1
log_every = 1
save_every = 2
evaluate_every = 1000
[model]
from_scratch = "tiny"
[data]
samples = 24
positions = [3, 5]
architectures = [30, 40]
history = [5, 10]
held_out = 4
[optimizer]
batch = 2
accumulation = 1
"""


def test_the_papers_preset() -> None:
    config = load_lm("paper")
    assert config.base == "meta-llama/Llama-3.1-8B" and config.adapter == "none"
    assert (config.learning_rate, config.schedule, config.warmup) == (1e-5, "cosine", 0.1)
    assert (config.samples, config.epochs, config.cutoff) == (228_000, 1.0, 20_480)
    assert config.precision == "bfloat16" and config.gradient_checkpointing
    assert config.history == (5, 200) and config.architectures == (100, 200)
    assert config.candidates == 10 and config.questions == 1


@pytest.mark.parametrize("name", sorted(p.stem for p in PRESETS.glob("*.toml")))
def test_presets_are_whole(name: str) -> None:
    config = load_lm(name, {"run": {"out": Path("x"), "seed": 3}})
    assert isinstance(config, LMTrainConfig) and config.seed == 3
    assert (config.base is None) != (config.from_scratch is None)


def test_tables_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    path.write_text(MINE + '[[data.tables]]\npath = "a.csv"\nmetric = "y"\ndirection = "min"\n')
    text = path.read_text().replace("[optimizer]\nbatch = 2\naccumulation = 1\n", "")
    path.write_text(text)
    assert load_lm(str(path)).tables == (TableChoice("a.csv", "y", "min"),)


MISTAKES = {
    "[model]\nbase = 'x'\nfrom_scratch = 'tiny'": "[model] give one of base and from_scratch",
    "[run]\nseed = 1": "[model] is missing",
    "[model]\nfrom_scratch = 'tny'": "unknown from_scratch 'tny'; did you mean 'tiny'?",
    "[model]\nfrom_scratch = 'tiny'\nadapter = 'lora'": "an adapter wants a base",
    "[model]\nbase = 'x'\nadapter = 'ia3'": "'none' or 'lora'",
    "[model]\nbase = 'x'\n[data]\nhistory = [9, 5]": "[9, 5]; accepted: [least, most]",
    "[model]\nbase = 'x'\n[data]\nhistory = [95, 99]": "a subspace needs 105 at least",
    "[model]\nbase = 'x'\n[data]\nlandscapes = 0.0": "landscapes = 0 wants [[data.tables]]",
    "[model]\nbase = 'x'\n[data]\nlandscape = 0.0": "did you mean 'landscapes'?",
    "[model]\nbase = 'x'\n[optimizer]\nwarmup = 1.5": "[optimizer] warmup = 1.5",
    "[model]\nbase = 'x'\n[optimizer]\nschedule = 'x'": "'cosine'",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_mistakes_are_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "t.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as refusal:
        load_lm(str(path))
    message = str(refusal.value)
    assert MISTAKES[text] in message and "\n" not in message, message


def test_a_preset_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match="unknown preset 'papr'; did you mean 'paper'"):
        load_lm("papr")


def test_run_files_take_the_lm_ranker(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text(
        "[space]\nname = 'nb201'\n[evaluator]\nkind = 'python'\nfunction = 'math:sin'\n"
        "[ranker]\nname = 'lm:none'\nmode = 'generate'\nlisted = 5\n"
    )
    assert load_run_file(path).ranker.settings == {"mode": "generate", "listed": 5}
    search = Search.from_file(path)
    assert search.problem.ranker.candidates == 5  # type: ignore[attr-defined]


def test_what_the_view_says() -> None:
    out = io.StringIO()
    with TrainingView(Console(file=out, width=200), lm_line, lm_news) as view:
        view(FinetuningProgress(10, 100, 2.5, 1e-3, 20.0, 180.0))
        view(
            FinetuningProgress(
                100, 100, None, 0.0, 200.0, 0.0, PickMetrics(5, 2.0, 0.25, 0.75, 0.5)
            )
        )
    assert out.getvalue().splitlines() == [
        "step 10 of 100, loss 2.500, 2.00 s a step, 3 min left",
        "held-out at step 100: best candidate picked 0.250, beats 0.750 of the others (0.5 is "
        "chance), regret 0.500",
        "step 100 of 100, 2.00 s a step, 0 s left",
    ]


# -- the commands, in processes of their own -------------------------------------------------------


Begin = Callable[..., WarmProcess]


@pytest.fixture
def begin(warm_python: Callable[..., WarmProcess], tmp_path: Path) -> Begin:
    """Starts `lm-searcher train-ranker` with these words."""
    imports = ["lm_searcher.tools.rankers.lm.finetuning.train", "peft", "transformers.trainer"]

    def start(*words: str) -> WarmProcess:
        arguments = ("-m", "lm_searcher.agent", "train-ranker", *words)
        return warm_python(*arguments, cwd=tmp_path, imports=imports)

    return start


def ended(process: WarmProcess) -> tuple[int | None, str, str]:
    out, err = process.communicate()
    return process.returncode, out, err


def refused(process: WarmProcess) -> str:
    code, out, err = ended(process)
    assert code == 2 and out == "" and err.count("\n") == 1, (code, out, err)
    return err


@pytest.mark.slow
def test_what_is_refused(tmp_path: Path, begin: Begin) -> None:
    (tmp_path / "t.toml").write_text(
        MINE.replace("[optimizer]", "[[data.tables]]\npath = 'b.npz'\nmetric = 'y'\n[optimizer]")
    )
    assert "table 'b.npz': no such file" in refused(begin("lm", "t.toml"))
    (tmp_path / "b.npz").write_bytes(b"x")
    assert "its card 'b.json' is missing" in refused(begin("lm", "t.toml"))
    assert "give a TOML file, a preset, or --from-scratch" in refused(begin("lm"))
    assert "unknown preset 'huge'" in refused(begin("lm", "--from-scratch", "huge"))
    words = ("lm", "paper-lora", "--base", "./none", "--samples", "1", "--device", "cpu")
    assert "model './none': no such directory" in refused(begin(*words))


@pytest.mark.slow
def test_kill_ctrl_c_and_go_on(tmp_path: Path, begin: Begin) -> None:
    (tmp_path / "mine.toml").write_text(MINE)
    words = ("lm", "mine.toml", "--out", "o")

    def after(step: int) -> WarmProcess:
        process = begin(*words)
        while not (tmp_path / "o" / "checkpoints" / f"checkpoint-{step}").exists():
            assert process.poll() is None, ended(process)
            time.sleep(0.02)
        return process

    process = after(2)
    process.kill()
    ended(process)
    process = after(6)
    process.send_signal(signal.SIGINT)
    code, _, err = ended(process)
    assert code == 130 and "Traceback" not in err, err
    command = "lm-searcher train-ranker lm mine.toml --out o"
    assert err.splitlines()[-1] == f"stopped; go on from the last checkpoint with: {command}"
    code, out, err = ended(begin(*words))
    assert (code, err) == (0, ""), err
    assert "wrote o/model" in out and load(str(tmp_path / "o" / "model"))
    steps = [json.loads(line) for line in (tmp_path / "o" / "log.jsonl").read_text().splitlines()]
    assert steps[-1]["step"] == 12 and steps[-1]["seconds"] > 0
    assert f"`{command}`" in (tmp_path / "o" / "model" / "README.md").read_text()


@pytest.mark.slow
def test_a_finished_run_makes_an_adapter(tmp_path: Path, begin: Begin) -> None:
    model, tokenizer = from_scratch("tiny")
    model.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    space = {"a": list(range(6)), "b": list(range(6))}
    search = Search(
        space,
        lambda config: config["a"] - 0.1 * config["b"],
        ranker="random",
        trials=30,
        name="done",
        folder=tmp_path / "runs",
    )
    search.run()
    words = ("adapt", "done", "--base", "base", "--samples", "16", "--device", "cpu")
    assert "run 'done' has 30 trials with a value; with 14 candidates adapting takes 33" in refused(
        begin(*words, "--candidates", "14")
    )
    assert "no such file" in refused(begin("adapt", "other", *words[2:]))
    code, out, err = ended(begin(*words, "--out", "mine"))
    assert (code, err) == (0, ""), err
    assert "wrote mine/adapter" in out
    assert load(str(tmp_path / "base"), str(tmp_path / "mine" / "adapter")).context == 8192
    assert "run done (30 trials)" in (tmp_path / "mine" / "adapter" / "README.md").read_text()
