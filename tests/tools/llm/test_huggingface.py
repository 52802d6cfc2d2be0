"""Models and adapters that cannot be loaded are refused in one line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import peft
import pytest
import torch

from lm_searcher.spaces.errors import RankerError
from lm_searcher.tools.llm.adapter import attach
from lm_searcher.tools.llm.huggingface import load
from lm_searcher.tools.rankers.lm.finetuning.tiny_model import from_scratch
from lm_searcher.tools.rankers.lm.likelihood import PromptAnswers, log_likelihoods


def save(folder: Path, width: int = 32, seed: int = 0) -> Path:
    model, tokenizer = from_scratch("tiny", seed, width=width, layers=2, heads=2)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def adapter(base: Path, folder: Path) -> Path:
    """A LoRA adapter with weights other than 0."""
    loaded = load(str(base))
    with_it = attach(loaded.model, peft.LoraConfig(target_modules="all-linear", r=2))
    torch.manual_seed(1)
    for name, parameter in with_it.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    with_it.save_pretrained(folder)
    return folder


def refusal(model: Path | str, adapter: Path | None = None) -> str:
    with pytest.raises(RankerError) as error:
        load(str(model), None if adapter is None else str(adapter))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_no_such_directory(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none").endswith("none': no such directory")


def test_a_directory_without_a_model(tmp_path: Path) -> None:
    assert "no config.json" in refusal(tmp_path)


def test_no_weights_and_pickled_weights(tmp_path: Path) -> None:
    folder = save(tmp_path / "m")
    (folder / "model.safetensors").unlink()
    assert "no weights; accepted: safetensors" in refusal(folder)
    (folder / "pytorch_model.bin").write_bytes(b"x")
    assert "only pytorch_model.bin, a pickle" in refusal(folder)


def test_damaged_weights(tmp_path: Path) -> None:
    folder = save(tmp_path / "m")
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    assert "cannot be loaded" in refusal(folder)


def test_weights_of_another_architecture(tmp_path: Path) -> None:
    folder = save(tmp_path / "m")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    assert "its weights lack" in refusal(folder)


def test_no_tokenizer(tmp_path: Path) -> None:
    folder = save(tmp_path / "m")
    for path in folder.glob("tokenizer*"):
        path.unlink()
    assert "tokenizer" in refusal(folder)


def test_an_adapter_changes_the_scores(tmp_path: Path) -> None:
    base = save(tmp_path / "base")
    folder = adapter(base, tmp_path / "a")
    asked = [PromptAnswers([4, 5, 6], [[7, 1], [8, 1]])]
    plain = log_likelihoods(load(str(base)).model, asked)
    both = log_likelihoods(load(str(base), str(folder)).model, asked)
    alone = log_likelihoods(load(str(folder)).model, asked)  # it names its base
    assert plain != both and both == alone


def test_an_adapter_that_does_not_fit(tmp_path: Path) -> None:
    folder = adapter(save(tmp_path / "base"), tmp_path / "a")
    wider = save(tmp_path / "wider", width=48)
    assert "does not fit model" in refusal(wider, folder)
    renamed = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**renamed, "target_modules": ["zz"]}))
    assert "does not fit model" in refusal(tmp_path / "base", folder)


def test_an_adapter_without_weights(tmp_path: Path) -> None:
    base = save(tmp_path / "base")
    folder = adapter(base, tmp_path / "a")
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    assert "no adapter_model.safetensors" in refusal(base, folder)
    shutil.rmtree(folder)
    assert "no such directory" in refusal(base, folder)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["model", "adapter"])
def test_an_id_that_is_not_here_and_no_hub(tmp_path: Path, kind: str) -> None:
    names = ("nobody/nothing",) if kind == "model" else (str(save(tmp_path)), "nobody/nothing")
    told = subprocess.run(
        [
            *(sys.executable, "-c"),
            "import sys\nfrom lm_searcher.tools.llm.huggingface import load\nload(*sys.argv[1:])",
            *names,
        ],
        env=os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "hub")},
        capture_output=True,
        text=True,
    ).stderr
    assert f"{kind} 'nobody/nothing': no such directory, not in the hub's cache" in told
    assert "Retrying" not in told
