from __future__ import annotations

import pytest

from lm_searcher.prompts import ncode
from lm_searcher.prompts.budget import PromptTooLong, fit
from lm_searcher.prompts.history import Entry

HISTORY: list[Entry] = [(f"{i:03d}", float(i)) for i in range(50)]  # 11 characters an entry


def fitted(limit: int) -> tuple[str, int]:
    return fit(lambda k: ncode.render(HISTORY, ["999"], limit=k), len(HISTORY), len, limit)


@pytest.mark.parametrize("kept", [0, 1, 2, 17, 49, 50])
def test_the_worst_are_dropped_first(kept: int) -> None:
    for limit in (4 + 11 * kept, 4 + 11 * kept + 10):
        prompt, shown = fitted(limit)
        assert shown == kept and len(prompt) == 4 + 11 * kept
        assert prompt.startswith("049|") or not kept


def test_everything_is_shown_where_there_is_room() -> None:
    assert fitted(10**9) == (ncode.render(HISTORY, ["999"]), 50)


def test_a_context_too_small_for_the_candidates() -> None:
    with pytest.raises(PromptTooLong, match="4 tokens without any history, with room for 3"):
        fitted(3)
