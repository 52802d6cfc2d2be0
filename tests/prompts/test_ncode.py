from __future__ import annotations

import re
from pathlib import Path

import pytest

from lm_searcher.prompts import ncode
from lm_searcher.prompts.history import Entry, best_first

GOLDEN = Path(__file__).parent / "golden"


def test_the_prompt_is_the_papers() -> None:
    history = [("0123", 0.5), ("4400", 0.9), ("1111", None), ("2222", 0.61803), ("3333", 0.1)]
    golden = (GOLDEN / "ncode.txt").read_text()
    assert ncode.render(history, ["0000", "4321", "1212"]) == golden


def test_scores_are_scaled_over_what_is_shown() -> None:
    history = [("0", 0.0), ("1", 1.0), ("2", 3.0), ("3", 2.0)]
    assert ncode.render(history, ["9"], limit=3) == "2|1.0000,3|0.5000,1|0.0000,9;"


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ([], "7;8;"),
        ([("1", 5.0)], "1|1.0000,7;8;"),
        ([("1", 5.0), ("2", 5.0)], "1|1.0000,2|1.0000,7;8;"),
        ([("1", None), ("2", 5.0)], "2|1.0000,1|0.0000,7;8;"),
        ([("1", None), ("2", None)], "1|0.0000,2|0.0000,7;8;"),
        ([("1", None), ("2", 5.0), ("3", 4.0)], "2|1.0000,3|0.0000,1|0.0000,7;8;"),
        ([("1", -1.7e308), ("2", 1.7e308), ("3", 0.0)], "2|1.0000,3|0.5000,1|0.0000,7;8;"),
        (
            [("1", float("nan")), ("2", 1.0), ("3", float("-inf"))],
            "2|1.0000,1|0.0000,3|0.0000,7;8;",
        ),
    ],
)
def test_unusual_histories(history: list[Entry], expected: str) -> None:
    assert ncode.render(history, ["7", "8"]) == expected


def test_no_more_than_200_are_shown_unless_asked_for() -> None:
    history: list[Entry] = [(f"{i:03d}", float(i)) for i in range(250)]
    shown = re.findall(r"(\d{3})\|", ncode.render(history, ["999"]))
    assert shown == [f"{i:03d}" for i in range(249, 49, -1)]
    assert ncode.render(history, ["999"], limit=0) == "999;"


def test_equal_scores_stay_in_their_order() -> None:
    history: list[Entry] = [("1", 1.0), ("2", 2.0), ("3", 1.0), ("4", None), ("5", 2.0)]
    assert [code for code, _ in best_first(history)] == ["2", "5", "1", "3", "4"]


@pytest.mark.parametrize(
    ("reply", "index"),
    [
        ("333103", 1),
        (" 333103\n", 1),
        ("333103;", 1),
        ("000000", 0),
        ("", None),
        (";", None),
        ("333104", None),
        ("33310", None),
        ("333103;000000;", None),
        ("The best is 333103", None),
    ],
)
def test_the_reply_must_be_a_candidate(reply: str, index: int | None) -> None:
    assert ncode.parse(reply, ["000000", "333103", "214300"]) == index


def test_every_candidate_is_found_again() -> None:
    candidates = ["0a", "10", "z9", "00"]
    assert [ncode.parse(code, candidates) for code in candidates] == [0, 1, 2, 3]
