"""Prompts that fit a model's context: the worst trials of the history are left out."""

from __future__ import annotations

from collections.abc import Callable


class PromptTooLong(Exception):
    """The prompt does not fit, even without any history."""

    def __init__(self, tokens: int, limit: int) -> None:
        super().__init__(f"{tokens} tokens without any history, with room for {limit}")


def fit(
    render: Callable[[int], str], entries: int, count_tokens: Callable[[str], int], limit: int
) -> tuple[str, int]:
    """The prompt with the most history within `limit` tokens, and its number of entries.

    ``render(k)`` is the prompt with the best k of the history's `entries`. Raises PromptTooLong.
    """
    whole = render(entries)
    if count_tokens(whole) <= limit:
        return whole, entries
    least = render(0)
    if (tokens := count_tokens(least)) > limit:
        raise PromptTooLong(tokens, limit)
    best, low, high = least, 0, entries  # a prompt with low entries fits, with high does not
    while high - low > 1:
        middle = (low + high) // 2
        prompt = render(middle)
        if count_tokens(prompt) <= limit:
            best, low = prompt, middle
        else:
            high = middle
    return best, low
