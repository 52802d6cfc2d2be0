from __future__ import annotations

from pathlib import Path

import jinja2
import pytest

from lm_searcher.prompts import semantic
from lm_searcher.prompts.reply import ReplyError
from lm_searcher.prompts.semantic import Task
from lm_searcher.prompts.template import fill

GOLDEN = Path(__file__).parent / "golden"
TASK = Task(
    "mlp",
    "val_loss",
    "min",
    [
        ("width", [32, 64, 128]),
        ("activation", ["relu", "gelu"]),
        ("norm", ["batch, affine", "none"]),
        ("bias", [True, False]),
        ("rate", [0.1, 0.01]),
    ],
)


def test_the_prompt_in_full() -> None:
    history = [("00000", -0.75), ("11010", None), ("21101", -0.3333333333), ("00001", -12345678.0)]
    prompt = semantic.render(TASK, history, ["20000", "10101"], picks=2, pending=["01010"], limit=3)
    assert prompt == (GOLDEN / "semantic.txt").read_text().rstrip("\n")


def test_the_first_prompt() -> None:
    task = Task("cells", "accuracy", "max", [("op", ["conv", "pool"])])
    prompt = semantic.render(task, [], ["0", "1"], picks=9)
    assert prompt == (GOLDEN / "semantic_first.txt").read_text().rstrip("\n")


def test_a_prompt_for_several_objectives_names_them() -> None:
    parts = [("accuracy", "max"), ("params_m", "min")]
    positions = [("op", ["conv", "pool"])]
    task = Task("cells", "score", "max", positions, parts, ["params_m <= 2", "latency_ms <= 5"])
    prompt = semantic.render(task, [("0", -0.25)], ["0", "1"])
    first, second, third, *_ = prompt.split("\n\n")
    assert first.endswith("The goal is the highest score.")
    assert "metrics against each other, with weights that are drawn anew at each step" in second
    assert ": accuracy (higher is better), params_m (lower is better)." in second
    assert third == (
        "A design is to satisfy params_m <= 2 and latency_ms <= 5; of one that does not, the score "
        "is shown as worse than that of all that do."
    )
    assert "-0.25: conv" in prompt
    bounded = Task("cells", "accuracy", "max", positions, (), ["params_m <= 2"])
    text = semantic.render(bounded, [], ["0", "1"])
    assert "satisfy params_m <= 2; of one that does not, the accuracy is" in text
    assert "weighs" not in text


def test_a_template_is_rendered_strictly() -> None:
    with pytest.raises(jinja2.UndefinedError):
        fill("ncode.txt", history=[])


@pytest.mark.parametrize(
    ("reply", "ranking"),
    [
        ('{"ranking": [2, 0, 1]}', [2, 0, 1]),
        ('{"ranking": [3]}', [3]),
        ('```json\n{"ranking": [1, 3]}\n```', [1, 3]),
        ('I would say {"ranking":[0,2]}.', [0, 2]),
        ('{"ranking": [0], "why": "it is wide"}', [0]),
    ],
)
def test_a_ranking_is_read(reply: str, ranking: list[int]) -> None:
    assert semantic.parse(reply, 4) == ranking


@pytest.mark.parametrize(
    ("reply", "what"),
    [
        ("", "no JSON object"),
        ("the second one", "no JSON object"),
        ("[1, 2]", "no JSON object"),
        ("} {", "no JSON object"),
        ('{"ranking": [1, 2}', "no valid JSON"),
        ('{"a":' * 200_000 + "1" + "}" * 200_000, "no valid JSON"),
        ('{"ranking": ' + "9" * 5000 + "}", "no valid JSON"),
        ('{"rank": [1]}', 'no list "ranking"'),
        ('{"ranking": []}', 'no list "ranking"'),
        ('{"ranking": {"0": 1}}', 'no list "ranking"'),
        ('{"ranking": ["1"]}', "other than whole numbers"),
        ('{"ranking": [true]}', "other than whole numbers"),
        ('{"ranking": [1.0]}', "other than whole numbers"),
        ('{"ranking": [0, 4]}', "number 4, which is no candidate; they are 0 to 3"),
        ('{"ranking": [-1]}', "number -1, which is no candidate"),
        ('{"ranking": [123456789012345678901234567890]}', "has a number, which is no candidate"),
        ('{"ranking": [1, 2, 1]}', "more than once"),
    ],
)
def test_a_wrong_reply_is_told_what_is_wrong(reply: str, what: str) -> None:
    with pytest.raises(ReplyError, match=what) as error:
        semantic.parse(reply, 4)
    assert len(str(error.value)) < 120


def test_the_schema_is_of_what_is_parsed() -> None:
    ranking = semantic.schema(4)["properties"]["ranking"]
    assert ranking["items"] == {"type": "integer", "minimum": 0, "maximum": 3}
    assert (ranking["minItems"], ranking["maxItems"]) == (1, 4)
