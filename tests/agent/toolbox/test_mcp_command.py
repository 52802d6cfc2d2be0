"""A ranker that was trained here, served by `transformers serve`, in a search to its end."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lm_searcher.agent.results.result import read_run
from lm_searcher.agent.search import Search
from lm_searcher.spaces.ncode import DIGITS
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.tools.rankers.lm.finetuning.progress import FinetuningProgress
from lm_searcher.tools.rankers.lm.finetuning.samples import CandidateSet, Sample
from lm_searcher.tools.rankers.lm.finetuning.settings import LMTrainConfig
from lm_searcher.tools.rankers.lm.finetuning.train import finetune
from lm_searcher.tools.rankers.lm.finetuning.training_data import TrainingData

pytestmark = pytest.mark.slow

OPTIONS = 12
SPACE = SearchSpace.of("line", {"x": list(range(OPTIONS))})


class Line:
    """One decision of twelve options; the higher the better."""

    def __getitem__(self, index: int) -> Sample:
        order = np.random.default_rng(index).permutation(OPTIONS)
        known, asked = order[:5], order[5:]
        history = [(DIGITS[i], float(i)) for i in known]
        return Sample(
            history, [CandidateSet([DIGITS[i] for i in asked], asked.astype(float))], "line"
        )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model from nothing after forty steps."""
    out = tmp_path_factory.mktemp("trained")
    config = LMTrainConfig(
        out=out,
        device="cpu",
        from_scratch="tiny",
        samples=320,
        learning_rate=3e-3,
        batch=8,
        accumulation=1,
        log_every=10,
    )
    moments: list[FinetuningProgress] = []
    data = TrainingData(Line(), [Line()[10**6]], "a line")
    assert finetune(config, "", moments.append, data=data)
    losses = [m.loss for m in moments if m.loss is not None]
    assert losses[-1] < losses[0] / 2, losses
    return config.product


@pytest.fixture(scope="module")
def url(trained: Path) -> Iterator[str]:
    """`transformers serve` as the README has it, on a free port of loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = str(Path(sys.executable).with_name("transformers"))
    server = subprocess.Popen(
        [command, "serve", str(trained), "--host", "127.0.0.1", "--port", str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    try:
        address = f"http://127.0.0.1:{port}"
        while not _answers(f"{address}/health"):
            assert server.poll() is None, server.communicate()
            time.sleep(0.2)
        yield f"{address}/v1"
    finally:
        server.terminate()
        server.communicate()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return bool(json.load(reply)["status"] == "ok")
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def test_a_search_with_the_served_model(trained: Path, url: str, tmp_path: Path) -> None:
    search = Search(
        SPACE,
        lambda config: float(config["x"]),
        ranker={"name": f"endpoint:{trained}@{url}", "prompt": "ncode", "fallback": "random"},
        trials=OPTIONS,
        initial=3,
        name="served",
        folder=tmp_path,
    )
    result = search.run()
    assert result.incumbent is not None and result.incumbent.ncode == DIGITS[OPTIONS - 1]
    found = read_run(search.files)
    codes = [trial.ncode for trial in found.trials]
    assert len(codes) == len(set(codes)) == OPTIONS
    account = found.usage
    assert account.asks >= 8 and account.prompt_tokens > 0 and account.completion_tokens > 0
    assert account.decisions > account.fallbacks, account  # the model itself decided


def test_the_same_model_in_this_process(trained: Path, tmp_path: Path) -> None:
    result = Search(
        SPACE,
        lambda config: float(config["x"]),
        ranker={"name": f"lm:{trained}", "fallback": "random"},
        trials=6,
        initial=3,
        name="own",
        folder=tmp_path,
    ).run()
    chosen = [DIGITS.index(trial.ncode) for trial in result.trials[3:]]
    drawn = {DIGITS.index(trial.ncode) for trial in result.trials[:3]}
    left = sorted(set(range(OPTIONS)) - drawn)[::-1]
    assert np.mean(chosen) > np.mean(left), "better than chance"
    assert all(trial.usage is not None for trial in result.trials[3:])
