"""Prompts and candidates as tokens, in the same way for training and for ranking."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lm_searcher.spaces.ncode import DIGITS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def prompt_ids(tokenizer: PreTrainedTokenizerBase, prompt: str) -> list[int]:
    """The prompt as a user's message, up to the beginning of the answer.

    The chat template is applied, as servers of chat completions do; without a template the text
    is tokenized unchanged.
    """
    if tokenizer.chat_template is None:
        plain: list[int] = tokenizer(prompt)["input_ids"]
        return plain
    encoded: Any = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
    )
    return list(encoded["input_ids"])


def answer_ids(tokenizer: PreTrainedTokenizerBase, candidate: str) -> list[int]:
    """A candidate, followed by the end mark."""
    ids: list[int] = tokenizer(candidate, add_special_tokens=False)["input_ids"]
    return [*ids, int(tokenizer.eos_token_id)]


def merges_digits(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer merges digits, so that one token stands for several decisions.

    Llama 3 merges up to three.
    """
    single = len(tokenizer("0", add_special_tokens=False)["input_ids"])
    texts = ("000000", "333103", "012345", "987654", DIGITS)
    lengths = [len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]
    return any(n < len(text) + single - 1 for n, text in zip(lengths, texts, strict=True))
