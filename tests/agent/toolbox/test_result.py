from __future__ import annotations

import json

import pytest

from lm_searcher.agent.toolbox.result import ToolResult, failure


def test_a_model_reads_the_summary_and_compact_json() -> None:
    summary, document = ToolResult("found é", {"a": [1, None], "é": 0.5}).text().split("\n")
    assert (summary, document) == ("found é", '{"a":[1,null],"é":0.5}')
    assert json.loads(document) == {"a": [1, None], "é": 0.5}


def test_an_error_is_one_line() -> None:
    assert failure("mend it").text() == "mend it"
    assert failure("mend it").error and not ToolResult("done").error


def test_what_json_has_no_word_for_is_refused() -> None:
    with pytest.raises(ValueError):
        ToolResult("", {"a": float("nan")}).text()
