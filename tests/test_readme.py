"""What the README says to type, typed."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from lm_searcher.agent.settings import run_file
from lm_searcher.agent.settings.train_lm import LMFile
from lm_searcher.agent.settings.train_ranker import InContextFile
from lm_searcher.spaces.space_file import load_space
from lm_searcher.tools.rankers.lm.finetuning.settings import TableChoice

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def lm_searcher(*words: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "lm_searcher.agent", *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"PYTHONPATH": str(cwd)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_commands_do_what_they_say(tmp_path: Path) -> None:
    run_file, *_ = blocks("toml")
    (tmp_path / "my-run.toml").write_text(run_file)
    commands = next(b for b in blocks("bash") if "my-run.toml" in b)
    for line in commands.splitlines():
        _, *words = shlex.split(line, comments=True)
        if words[0] == "run":  # the least that shows it: 40 trials take their time
            words += ["--trials", "3"]
        lm_searcher(*words, cwd=tmp_path)
    shown = json.loads(lm_searcher("show", "my-run", "--json", cwd=tmp_path))
    assert shown["state"] == "finished" and len(shown["trials"]) == 3
    assert 0.5 < shown["incumbent"]["metrics"]["test_accuracy"] <= 1
    assert shown["incumbent"]["seeds"] == 2
    assert (tmp_path / "report.html").stat().st_size > 1_000_000


@pytest.mark.slow
def test_the_python_of_the_readme_runs(tmp_path: Path) -> None:
    search, ask, _ = blocks("python")
    search = search.replace('{"accuracy": ..., "params_m": ...}', '{"accuracy": config["width"]}')
    ask = ask.replace("measure(trial.config)", "1.0")
    given = 'space = {"width": [1, 2, 3], "depth": [1, 2]}\n'
    script = search + given + ask.replace('"mine"', '"asked"')
    (tmp_path / "script.py").write_text(script.replace("trials=100", "trials=4"))
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].split()[0] in {"20", "21"}  # the widest, either activation


@pytest.mark.slow
def test_the_sampler_of_the_readme_finds_the_best(tmp_path: Path) -> None:
    *_, sampler = blocks("python")
    given = (
        "def train_and_measure(layers, width, activation):\n"
        "    return (activation == 'gelu') - abs(layers - 5) / 8 - abs(width - 100) / 1000\n"
    )
    shown = "print(study.best_params['layers'], study.best_params['activation'])\n"
    (tmp_path / "script.py").write_text(given + sampler + shown)
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "5 gelu\n"


@pytest.mark.slow
def test_the_quickstart_finds_the_best(tmp_path: Path) -> None:
    script = ROOT / "examples" / "quickstart.py"
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("331 ")


def test_the_files_of_the_readme_are_accepted(tmp_path: Path) -> None:
    settings, objectives, lora, space_file, *_ = blocks("toml")
    (tmp_path / "run.toml").write_text(objectives + settings)
    whole = run_file.load_run_file(tmp_path / "run.toml")
    assert whole.evaluator.kind == "train" and len(whole.objectives) == len(whole.constraints) == 2
    (tmp_path / "lora.toml").write_text(lora)
    adapted = run_file.load_run_file(tmp_path / "lora.toml")
    assert adapted.evaluator.kind == "lora" and adapted.space.settings["ranks"] == [0, 4, 8, 16]
    (tmp_path / "space.toml").write_text(space_file)
    assert load_space(tmp_path / "space.toml").name == "mlp"


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.toml")), ids=lambda p: p.name)
def test_the_examples_are_accepted(path: Path) -> None:
    if "positions" in tomllib.loads(path.read_text()):
        load_space(path)
    else:
        run_file.load_run_file(path)


def keys(model: type[BaseModel]) -> set[str]:
    found: set[str] = set()
    for name, field in model.model_fields.items():
        nested: Any = field.annotation
        if isinstance(nested, type) and issubclass(nested, BaseModel):
            found |= keys(nested)
        else:
            found.add(name)
    return found


def test_every_key_of_a_training_is_named() -> None:
    passage = README[README.index("**Weights for the local") : README.index("## Configuration")]
    named = set(re.findall(r"`(\w+)`", passage))
    assert keys(InContextFile) | keys(LMFile) | keys(TableChoice) <= named
