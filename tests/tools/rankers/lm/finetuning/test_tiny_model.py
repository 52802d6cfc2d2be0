"""The small new model: its tokenizer, its seed, its sizes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from lm_searcher.prompts import ncode
from lm_searcher.spaces.errors import ConfigError
from lm_searcher.spaces.ncode import DIGITS
from lm_searcher.tools.rankers.lm.finetuning.tiny_model import SIZES, digit_tokenizer, from_scratch
from lm_searcher.tools.rankers.lm.text import prompt_ids

TOKENIZER = digit_tokenizer()


def words(text: str) -> list[str]:
    return TOKENIZER.convert_ids_to_tokens(TOKENIZER(text)["input_ids"])


def test_a_token_a_digit_and_a_token_a_score() -> None:
    prompt = ncode.render([("333103", 2.0), ("000111", 1.25), ("04z9a0", None)], ["120120"])
    assert len(words(prompt)) == 3 * 7 + 7
    assert TOKENIZER.unk_token not in words(prompt)
    assert "|1.00," in words(prompt) and "|0.00," in words(prompt)


def test_a_digit_token_names_its_decision() -> None:
    third, fourth = words("1111")[2:]
    assert third != fourth
    assert words("2010")[1] == words("44|0.1234,2010;")[4], "wherever the code stands"


def test_all_digits_and_long_codes() -> None:
    for code in (DIGITS, "9" * 60, "z" * 40):
        assert len(words(code)) == len(code) and TOKENIZER.unk_token not in words(code)


def test_decoding_returns_the_code() -> None:
    for code in ("333103", DIGITS, "0"):
        ids = [*TOKENIZER(code)["input_ids"], TOKENIZER.eos_token_id]
        assert TOKENIZER.decode(ids, skip_special_tokens=True) == code


def test_saved_and_read_again(tmp_path: Path) -> None:
    TOKENIZER.save_pretrained(tmp_path)
    read = AutoTokenizer.from_pretrained(tmp_path)
    prompt = ncode.render([("333103", 2.0), ("000111", 1.0)], ["120120"])
    assert prompt_ids(read, prompt) == prompt_ids(TOKENIZER, prompt) == TOKENIZER(prompt).input_ids


def test_a_seed_determines_the_weights_and_not_torchs_generator() -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    a, b, c = (from_scratch("tiny", seed)[0] for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(a.lm_head.weight, b.lm_head.weight)
    assert not torch.equal(a.lm_head.weight, c.lm_head.weight)


def test_sizes() -> None:
    counts = {s: sum(p.numel() for p in from_scratch(s)[0].parameters()) for s in SIZES}
    assert counts["tiny"] < 1e6 and counts["small"] >= 10e6
    with pytest.raises(ConfigError, match="unknown from-scratch preset 'tny'; did you mean 'tiny'"):
        from_scratch("tny")
