from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from lm_searcher.evals import training_speed
from lm_searcher.evals.card import step_bytes


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="on a GPU it measures more")
def test_the_tiniest_size(capsys: pytest.CaptureFixture[str]) -> None:
    size = ["--images", "32", "--batch", "16", "--channels", "1", "--cells", "1"]
    training_speed.main(["--json", *size, "--digits", "0"])
    plain, ours = json.loads(capsys.readouterr().out)["rows"]
    assert plain["candidates an hour, (a) = 1"] == 1
    assert 0 < ours["share not training"] < 1
    assert 0 < ours["share not training, of processor time"] < 1
    assert ours["images a second"] * ours["seconds"] == pytest.approx(32)
    assert plain["images a second"] * plain["seconds"] == pytest.approx(32)


def test_bytes_moved_are_those_of_each_operation() -> None:
    """A linear layer without bias, 4 images of 8 numbers, 2 classes, float32."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(8, 2, bias=False))
    moved = step_bytes(model, torch.ones(4, 2, 2, 2), torch.zeros(4, dtype=torch.long))
    product = 4 * (4 * 8 + 2 * 8 + 4 * 2)  # what is read and written, forward
    # Softmax and loss, and both backward, move the 8 logits or a scalar a few times each.
    assert 2 * product < moved < 2 * product + 1000
