"""The language task: its texts, its scores, and models of the user's own."""

from __future__ import annotations

import math
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lm_searcher.spaces.errors import DatasetError, EvaluatorError, UserError
from lm_searcher.spaces.lora.space import lora
from lm_searcher.tools.evaluators.lora.evaluator import LoraEvaluator
from lm_searcher.tools.evaluators.lora.language.perplexity import (
    mean_loss,
    next_token_loss,
    perplexity,
)
from lm_searcher.tools.evaluators.lora.language.task import LanguageTask
from lm_searcher.tools.evaluators.lora.language.text_blocks import (
    blocks,
    folder_text,
    library_text,
    of_bytes,
    topics,
)
from lm_searcher.tools.evaluators.lora.task import TaskSettings
from lm_searcher.tools.evaluators.lora.tasks import make_task
from lm_searcher.tools.protocols import Evaluation
from lm_searcher.tools.rankers.lm.finetuning.tiny_model import from_scratch


class Counting(nn.Module):
    """Gives 3/4 to the token that is one more, and 1/12 to each of the other three."""

    def forward(self, input_ids: Tensor, use_cache: bool) -> SimpleNamespace:
        following = nn.functional.one_hot((input_ids + 1) % 4, 4)
        return SimpleNamespace(logits=torch.where(following == 1, math.log(9), 0.0))


def test_the_loss_by_hand() -> None:
    tokens = torch.tensor([[0, 1, 2, 3], [0, 1, 2, 2], [1, 1, 1, 1]])
    requests = [math.log(4 / 3), math.log(4 / 3) * 2 / 3 + math.log(12) / 3, math.log(12)]
    for row, expected in zip(tokens, requests, strict=True):
        assert float(next_token_loss(Counting(), row[None])) == pytest.approx(expected)
    assert mean_loss(Counting(), tokens, 2) == pytest.approx(sum(requests) / 3)
    assert perplexity(math.log(12)) == pytest.approx(12)
    assert perplexity(1e6) == math.inf


def test_the_embedded_texts_are_here_and_differ() -> None:
    text = library_text(128, of_bytes)
    assert min(len(text.train), len(text.valid), len(text.test)) > 100
    code, english = bytes(text.train.ravel().astype(np.uint8)), topics().encode()
    assert code.count(b"self.") > 50 > english.count(b"self.")
    assert len(english) > 300_000


def test_a_folder_of_texts_in_order(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.txt").write_text("b" * 55)
    (tmp_path / "a.txt").write_text("ä" * 25)
    (tmp_path / ".hidden").write_bytes(b"\xff")
    text = folder_text(tmp_path, 5, of_bytes)
    assert [len(part) for part in (text.train, text.valid, text.test)] == [17, 2, 2]
    assert (
        text.train[0].tolist() == [195, 164, 195, 164, 195] and text.test[-1].tolist() == [98] * 5
    )
    assert blocks(np.arange(7), 3).tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", b"caf\xe9 " * 99, "is no UTF-8 (byte 3)"),
        ("a.txt", b"short", "5 tokens are too few for blocks of 8; accepted: 80 or more"),
        (".a", b"hidden", "the folder is empty"),
    ],
)
def test_texts_that_cannot_be_used(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DatasetError) as caught:
        folder_text(tmp_path, 8, of_bytes)
    assert said in str(caught.value) and str(tmp_path) in str(caught.value)


def test_a_model_of_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)  # and put back afterwards
    model, tokenizer = from_scratch("tiny", layers=2)
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "text.txt").write_text("333103|0.50,210444|0.61,;012345;" * 99)
    space = lora(str(tmp_path / "model"), ["*_proj"], [0, 4], group=r"layers\.\d+")
    settings = TaskSettings(
        str(tmp_path / "model"),
        folder=tmp_path / "text.txt",
        epochs=2,
        learning_rate=0.01,
        context=64,
        gradient_checkpointing=True,
    )
    evaluator = LoraEvaluator(space, make_task("language", settings))
    evaluator.prepare()
    assert os.environ["TOKENIZERS_PARALLELISM"] == "false"
    values: list[float] = []

    def report(step: int, value: float) -> bool:
        values.append(value)
        return False

    for ncode in ("11", "00"):
        evaluator.evaluate(Evaluation(0, ncode, space.decode(ncode), 0), report)
    assert values[1] < values[0] < values[2], "two epochs, and the base"


def test_a_base_that_is_not_the_spaces(tmp_path: Path) -> None:
    model, _ = from_scratch("tiny", layers=1)
    model.save_pretrained(tmp_path)
    space = lora(str(tmp_path), ["q_proj"], [0, 4])
    task = LanguageTask(TaskSettings("builtin:language"))
    with pytest.raises(EvaluatorError, match="'builtin:language' of the task"):
        LoraEvaluator(space, task).prepare()


def test_a_base_without_weights(tmp_path: Path) -> None:
    with pytest.raises(EvaluatorError, match="has no weights; accepted: safetensors"):
        LanguageTask(TaskSettings(str(tmp_path))).prepare()


def test_another_tasks_base() -> None:
    with pytest.raises(UserError, match="task 'language' cannot adapt base 'builtin:segmenter'"):
        make_task("language", TaskSettings("builtin:segmenter"))
