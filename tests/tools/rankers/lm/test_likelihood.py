"""The shared cache gives the results of separate passes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
)

from lm_searcher.tools.rankers.lm import likelihood
from lm_searcher.tools.rankers.lm.likelihood import (
    PromptAnswers,
    log_likelihoods,
    separately,
    shares,
)

WORDS = 23
SMALL = {
    "vocab_size": WORDS,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def llama(seed: int = 0) -> PreTrainedModel:
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(**SMALL)).eval()


def tokens(rng: np.random.Generator, n: int) -> list[int]:
    return rng.integers(0, WORDS, n).tolist()


def questions(
    count: int, answers: int, shared: int = 40, seed: int = 0, length: int = 4
) -> list[PromptAnswers]:
    rng = np.random.default_rng(seed)
    start = tokens(rng, shared)
    return [
        PromptAnswers(
            [*start, *tokens(rng, int(rng.integers(1, 9)))],
            [tokens(rng, int(rng.integers(1, length + 1))) for _ in range(answers)],
        )
        for _ in range(count)
    ]


def agree(model: PreTrainedModel, asked: Sequence[PromptAnswers]) -> None:
    found, wanted = log_likelihoods(model, asked), separately(model, asked)
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4, rtol=0)


@pytest.mark.parametrize("count", [1, 2, 7])
@pytest.mark.parametrize("answers", [1, 5])
def test_many_prompts_with_a_common_prefix(count: int, answers: int) -> None:
    agree(llama(), questions(count, answers))


def test_prompts_without_a_common_prefix() -> None:
    agree(llama(), questions(3, 4, shared=0))


def test_one_prompt_within_another() -> None:
    rng = np.random.default_rng(3)
    start = tokens(rng, 20)
    answers = [tokens(rng, 3) for _ in range(3)]
    agree(llama(), [PromptAnswers(start, answers), PromptAnswers([*start, 5, 6], answers)])


def test_a_prompt_of_one_token() -> None:
    agree(llama(), [PromptAnswers([1], [[2, 3], [4]])])


def test_an_answer_that_begins_another_and_equal_answers() -> None:
    prompt = tokens(np.random.default_rng(1), 12)
    answers = [[1, 2, 3], [1, 2], [1], [1, 2, 3], [1, 2, 4]]
    agree(llama(), [PromptAnswers(prompt, answers)])
    found = log_likelihoods(llama(), [PromptAnswers(prompt, answers)])[0]
    assert found[0] == found[3] and len(set(found)) == 4


def test_chunks_do_not_change_the_results(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = questions(5, 8)
    whole = log_likelihoods(llama(), asked)
    monkeypatch.setattr(likelihood, "NODES", 10)
    for a, b in zip(log_likelihoods(llama(), asked), whole, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4, rtol=0)


def test_results_are_reproducible() -> None:
    model, asked = llama(), questions(3, 5)
    assert log_likelihoods(model, asked) == log_likelihoods(model, asked)


def test_likelihoods_of_all_words_sum_to_one() -> None:
    prompt = tokens(np.random.default_rng(2), 9)
    found = log_likelihoods(llama(), [PromptAnswers(prompt, [[w] for w in range(WORDS)])])[0]
    assert np.exp(found).sum() == pytest.approx(1, abs=1e-5)


def test_learnt_position_embeddings_can_share_the_cache() -> None:
    torch.manual_seed(0)
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=WORDS, n_embd=32, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=1)
    ).eval()
    assert shares(model)
    agree(model, questions(3, 4))


def test_a_sliding_window_has_separate_passes() -> None:
    torch.manual_seed(0)
    config = MistralConfig(**SMALL, sliding_window=8)
    model = MistralForCausalLM(config).eval()
    asked = questions(2, 3)
    assert log_likelihoods(model, asked) == separately(model, asked)


def test_other_attention_has_separate_passes() -> None:
    model = LlamaForCausalLM._from_config(LlamaConfig(**SMALL), attn_implementation="eager").eval()
    asked = questions(2, 3)
    assert log_likelihoods(model, asked) == separately(model, asked)
