"""Embedded bases: trained once, whole or not at all, checked whenever they are used."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from lm_searcher.spaces.errors import EvaluatorError
from lm_searcher.tools.evaluators.lora.base import BaseModel, checksum_path
from lm_searcher.tools.evaluators.lora.base_process import write

TRAINERS = """
import time
from pathlib import Path

def quick(value, log):
    import torch
    with open(log, "a") as file:
        file.write("made\\n")
    assert torch.get_num_threads() == 1
    return {"weight": torch.full((3,), float(value))}

def slow(log):
    Path(log).touch()
    time.sleep(600)

def wrong():
    from lm_searcher.spaces.errors import DatasetError
    raise DatasetError("no text\\nto learn")

def broken():
    raise RuntimeError("not expected")
"""


@pytest.fixture
def trainers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of trainers that a process finds."""
    (tmp_path / "own_trainers.py").write_text(TRAINERS)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "own_trainers"


def quick(trainers: str, tmp_path: Path, value: int = 7) -> BaseModel:
    recipe = {"value": value, "log": str(tmp_path / "log")}
    return BaseModel("quick", f"{trainers}:quick", recipe)


def files(cache: Path) -> set[str]:
    return {p.name for p in cache.iterdir()}


def test_a_base_is_trained_once(trainers: str, tmp_path: Path) -> None:
    base, cache = quick(trainers, tmp_path), tmp_path / "deep" / "cache"
    path = base.make(cache)
    assert torch.equal(base.load(cache)["weight"], torch.full((3,), 7.0))
    assert (tmp_path / "log").read_text() == "made\n"
    assert files(cache) == {path.name, f"{path.name}.sha256", f"{path.name}.lock"}
    listed = checksum_path(path).read_text()
    assert listed.endswith(f"  {path.name}\n") and len(listed.split()[0]) == 64
    other = quick(trainers, tmp_path, value=8)
    assert other.path(cache) != path, "another recipe is another base"


@pytest.mark.slow
def test_two_processes_at_once_train_it_once(trainers: str, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from lm_searcher.tools.evaluators.lora.base import BaseModel\n"
        f"recipe = {{'value': 7, 'log': {str(tmp_path / 'log')!r}}}\n"
        f"BaseModel('quick', '{trainers}:quick', recipe).make(Path(sys.argv[1]))\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    command = [sys.executable, "-c", code, str(tmp_path / "cache")]
    running = [
        subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) for _ in range(2)
    ]
    assert [process.wait() for process in running] == [0, 0]
    assert (tmp_path / "log").read_text() == "made\n"


@pytest.mark.parametrize("harm", ["flipped", "cut", "no checksum", "no text"])
def test_a_base_that_is_not_its_checksum(harm: str, trainers: str, tmp_path: Path) -> None:
    base = quick(trainers, tmp_path)
    path = base.path(tmp_path)
    write({"weight": torch.zeros(3)}, path)
    whole = path.read_bytes()
    if harm == "flipped":
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    elif harm == "cut":
        path.write_bytes(whole[:-5])
    elif harm == "no checksum":
        checksum_path(path).unlink()
    else:
        checksum_path(path).write_bytes(b"\xff\xfe")
    with pytest.raises(EvaluatorError) as caught:
        base.load(tmp_path)
    said = f"base '{path}' does not match its checksum; delete it to train anew"
    assert str(caught.value) == said
    if harm == "cut":
        path.unlink()
        assert base.make(tmp_path) == path, "as it was told to"


@pytest.mark.slow
def test_a_kill_in_the_middle_leaves_nothing_broken(trainers: str, tmp_path: Path) -> None:
    cache, log = tmp_path / "cache", tmp_path / "begun"
    code = (
        "import sys; from pathlib import Path\n"
        "from lm_searcher.tools.evaluators.lora.base import BaseModel\n"
        f"base = BaseModel('quick', '{trainers}:slow', {{'log': {str(log)!r}}})\n"
        "print(base.path(Path(sys.argv[1])).name, flush=True)\n"
        "base.make(Path(sys.argv[1]))\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    with subprocess.Popen(
        [sys.executable, "-c", code, str(cache)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        while not log.exists():
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert files(cache) == {f"{name}.lock"}, "no part of a base"
    left = cache / f".{quick(trainers, tmp_path).path(cache).name}.0000.part"
    left.touch()  # as by a kill while the weights were being written
    assert quick(trainers, tmp_path).load(cache)["weight"].shape == (3,)
    assert not left.exists()


@pytest.mark.parametrize(
    ("trainer", "said"),
    [
        ("wrong", "could not be trained: no text to learn"),
        ("broken", "could not be trained: its process ended with 1"),
        ("absent", "could not be trained: base 'own_trainers:absent'"),
    ],
)
def test_a_training_that_fails(trainer: str, said: str, trainers: str, tmp_path: Path) -> None:
    base = BaseModel("bad", f"{trainers}:{trainer}", {})
    with pytest.raises(EvaluatorError) as caught:
        base.make(tmp_path / "cache")
    assert str(caught.value).startswith("base 'builtin:bad' ") and said in str(caught.value)
    assert files(tmp_path / "cache") == {f"{base.path(tmp_path).name}.lock"}


def test_a_cache_that_cannot_be_written(trainers: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EvaluatorError) as caught:
        quick(trainers, tmp_path).make(tmp_path / "file")
    assert "accepted for cache: a directory that can be written" in str(caught.value)
    assert "\n" not in str(caught.value)
