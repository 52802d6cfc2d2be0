"""From prompts and candidates to tokens, the same way in training and in ranking."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lm_searcher.spaces.ncode import DIGITS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def prompt_ids(tokenizer: PreTrainedTokenizerBase, prompt: str) -> list[int]:
    """The prompt as a user's message, up to where the answer begins.

    Through the chat template, as a server of chat completions does it; a tokenizer without one
    takes the text as it is.
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
    """A candidate with the end mark after it."""
    ids: list[int] = tokenizer(candidate, add_special_tokens=False)["input_ids"]
    return [*ids, int(tokenizer.eos_token_id)]


def merges_digits(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether some run of digits is fewer tokens than digits, so that a token is several
    decisions at once (Llama 3: up to three)."""
    alone = len(tokenizer("0", add_special_tokens=False)["input_ids"])
    texts = ("000000", "333103", "012345", "987654", DIGITS)
    lengths = [len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]
    return any(n < len(text) + alone - 1 for n, text in zip(lengths, texts, strict=True))
