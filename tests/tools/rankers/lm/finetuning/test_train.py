"""Fine-tuning: the loss falls, an interrupted training continues, the model loads."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lm_searcher.spaces.errors import RankerError, TrainingError
from lm_searcher.tools.llm.huggingface import load
from lm_searcher.tools.rankers.lm.finetuning.progress import FinetuningProgress, last_checkpoint
from lm_searcher.tools.rankers.lm.finetuning.samples import CandidateSet, Sample
from lm_searcher.tools.rankers.lm.finetuning.settings import LMTrainConfig
from lm_searcher.tools.rankers.lm.finetuning.train import finetune
from lm_searcher.tools.rankers.lm.finetuning.training_data import TrainingData

pytestmark = pytest.mark.slow


class Copying:
    """The best candidate is the best of the history with its last digit changed to 0: easy."""

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng(index)
        codes = ["".join(map(str, rng.integers(1, 4, 3))) for _ in range(6)]
        history = [(code, float(-i)) for i, code in enumerate(dict.fromkeys(codes))]
        best = history[0][0][:2] + "0"
        others = [d + best[1:] for d in "123" if d != best[0]]
        return Sample(history, [CandidateSet([*others, best], np.array([0.0, 1.0, 2.0]))], "k")


DATA = TrainingData(Copying(), [Copying()[10**6 + i] for i in range(5)], "made up")


def config(out: Path, **changed: object) -> LMTrainConfig:
    base = LMTrainConfig(
        out=out,
        device="cpu",
        from_scratch="tiny",
        samples=160,
        history=(5, 6),
        candidates=3,
        learning_rate=3e-3,
        warmup=0.05,
        batch=8,
        accumulation=1,
        cutoff=256,
        log_every=5,
        save_every=5,
        evaluate_every=1000,
    )
    return replace(base, **changed)  # type: ignore[arg-type]


def losses(moments: list[FinetuningProgress]) -> list[float]:
    return [m.loss for m in moments if m.loss is not None]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load(str(folder)).model.state_dict()


def test_the_loss_falls_and_the_model_loads(tmp_path: Path) -> None:
    moments: list[FinetuningProgress] = []
    assert finetune(config(tmp_path), "the command", moments.append, data=DATA)
    found = losses(moments)
    assert len(found) == 4 and found[-1] < found[0] / 2, found
    assert moments[-1].step == moments[-1].steps == 20
    assert any(m.figures for m in moments)
    card = (tmp_path / "model" / "README.md").read_text()
    assert "`the command`" in card and "made up" in card and "**Seed** 0" in card
    assert {p.suffix for p in (tmp_path / "model").iterdir()} & {".bin", ".pt", ".pkl"} == set()
    assert load(str(tmp_path / "model")).tokenizer.chat_template is not None
    assert not (tmp_path / "checkpoints").exists()
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 20


def test_a_finished_training_is_not_repeated(tmp_path: Path) -> None:
    assert finetune(config(tmp_path), data=DATA)
    moments: list[FinetuningProgress] = []
    assert finetune(config(tmp_path), "", moments.append, data=DATA) and moments == []


def test_a_stopped_training_continues_to_the_same_weights(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert finetune(config(whole), data=DATA)
    told: list[FinetuningProgress] = []
    assert not finetune(config(parts), "", told.append, lambda: len(told) >= 2, DATA)
    left = last_checkpoint(parts / "checkpoints")
    assert left is not None and 0 < int(left.name.split("-")[1]) < 20
    with pytest.raises(TrainingError, match=r"began with learning_rate = 0.003, not 0.1: go on"):
        finetune(config(parts, learning_rate=0.1), data=DATA)
    assert finetune(config(parts), data=DATA)
    for name, tensor in weights(whole / "model").items():
        torch.testing.assert_close(weights(parts / "model")[name], tensor, atol=1e-6, rtol=0)


def test_an_incomplete_checkpoint_is_ignored(tmp_path: Path) -> None:
    for step, whole in ((5, True), (10, True), (15, False)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "model.safetensors").write_text("x")
        if whole:
            (folder / "trainer_state.json").write_text("{}")
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-10"
    assert not (tmp_path / "checkpoint-15").exists()
    assert last_checkpoint(tmp_path / "none") is None


def test_an_adapter_on_a_base(tmp_path: Path) -> None:
    assert finetune(config(tmp_path / "base", samples=40), data=DATA)
    base = tmp_path / "base" / "model"
    moments: list[FinetuningProgress] = []
    lora = config(
        tmp_path / "lora",
        base=str(base),
        from_scratch=None,
        adapter="lora",
        rank=4,
        gradient_checkpointing=True,
    )
    assert finetune(lora, "", moments.append, data=DATA)
    assert losses(moments)[-1] < losses(moments)[0]
    adapter = tmp_path / "lora" / "adapter"
    assert (adapter / "adapter_model.safetensors").stat().st_size < 300_000
    assert not (adapter / "model.safetensors").exists()
    before, after = weights(base), load(str(base), str(adapter)).model.state_dict()
    assert torch.equal(before["model.norm.weight"], after["model.norm.weight"])
    assert "base_model: " in (adapter / "README.md").read_text()


def test_several_candidate_sets_train_too(tmp_path: Path) -> None:
    from lm_searcher.tools.rankers.lm.finetuning.training_data import training_data_of

    several = config(
        tmp_path, samples=24, positions=(4, 6), history=(20, 30), candidates=10, questions=3,
        held_out=5, cutoff=2048,
    )  # fmt: skip
    moments: list[FinetuningProgress] = []
    assert finetune(several, "", moments.append, lessons=training_data_of(several))
    assert moments[-1].step == 3


def test_a_missing_base_leaves_no_files(tmp_path: Path) -> None:
    missing = config(tmp_path, from_scratch=None, base=str(tmp_path / "none"))
    with pytest.raises(RankerError, match="no such directory"):
        finetune(missing, data=DATA)
    assert finetune(config(tmp_path, samples=8), data=DATA)
