"""What of a conversation is sent."""

from __future__ import annotations

import pytest
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langchain_core.messages.utils import count_tokens_approximately

from lm_searcher.agent.chat.history_window import LOST, MOST_CHARACTERS, completed, waiting, window


def ask(*keys: str) -> AIMessage:
    calls = [{"name": "status", "args": {}, "id": key, "type": "tool_call"} for key in keys]
    return AIMessage("", tool_calls=calls)


def answer(key: str, text: str = "fine") -> ToolMessage:
    return ToolMessage(text, tool_call_id=key, name="status")


def test_calls_without_an_answer_get_one() -> None:
    lost = [HumanMessage("1"), ask("a", "b"), answer("b"), HumanMessage("2"), answer("x")]
    sent = completed(lost)
    assert [m.type for m in sent] == ["human", "ai", "tool", "tool", "human"]
    assert sent[2].text == LOST and sent[3].text == "fine"
    assert completed(sent) == sent


def test_waiting_is_of_the_newest_reply() -> None:
    messages: list[AnyMessage] = [HumanMessage("1"), ask("a", "b"), answer("a")]
    assert waiting(messages) == ["b"]
    assert waiting([*messages, HumanMessage("2")]) == []


@pytest.mark.parametrize("tokens", [200, 1000, 5000])
def test_whole_turns_go_first(tokens: int) -> None:
    messages: list[AnyMessage] = []
    for i in range(30):
        key = f"k{i}"
        messages += [HumanMessage(f"q{i}"), ask(key), answer(key, "word " * 50), AIMessage("ok")]
    sent = window(messages, tokens)
    assert sent[0].type == "human" and sent[-1] is messages[-1] and len(sent) % 4 == 0
    assert count_tokens_approximately(sent) <= tokens
    assert len(sent) == 120 or count_tokens_approximately(messages[-len(sent) - 4 :]) > tokens


def test_a_long_turn_keeps_its_question_and_pairs() -> None:
    turn: list[AnyMessage] = [HumanMessage("the question")]
    for i in range(20):
        turn += [ask(f"a{i}", f"b{i}"), answer(f"a{i}", "x" * 400), answer(f"b{i}", "y" * 400)]
    sent = window(turn, 800)
    assert sent[0] is turn[0] and 1 < len(sent) < 20
    assert completed(sent) == sent and sent[-1] == turn[-1]


def test_a_long_result_is_cut() -> None:
    sent = window([HumanMessage("q"), ask("a"), answer("a", "x" * 50_000)], 10**6)
    assert len(sent[-1].text) < MOST_CHARACTERS + 50 and "38000 characters more" in sent[-1].text
