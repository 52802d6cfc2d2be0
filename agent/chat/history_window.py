"""The part of a conversation that a model is sent."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langchain_core.messages.utils import count_tokens_approximately

MOST_CHARACTERS = 12_000
"""The most characters of one tool's result that are sent."""
LOST = "not run: the turn ended before"


def waiting(messages: Sequence[AnyMessage]) -> list[str]:
    """The ids of the latest reply's calls that have no answer yet, in order."""
    answered: set[str] = set()
    for message in reversed(messages):
        if isinstance(message, ToolMessage):
            answered.add(message.tool_call_id)
        elif isinstance(message, AIMessage):
            ids = [call["id"] or "" for call in message.tool_calls]
            return [key for key in ids if key not in answered]
        else:
            break
    return []


def completed(messages: Sequence[AnyMessage]) -> list[AnyMessage]:
    """The messages with an answer directly after each call, as endpoints demand.

    A call that was lost to Ctrl-C or a crash gets an answer that says so. Answers without a call
    are left out.
    """
    found: list[AnyMessage] = []
    for i, message in enumerate(messages):
        if isinstance(message, ToolMessage):
            continue
        found.append(message)
        if not isinstance(message, AIMessage) or not message.tool_calls:
            continue
        answers: dict[str, ToolMessage] = {}
        for later in messages[i + 1 :]:
            if isinstance(later, AIMessage):
                break
            if isinstance(later, ToolMessage):
                answers.setdefault(later.tool_call_id, later)
        for call in message.tool_calls:
            key = call["id"] or ""
            lost = ToolMessage(LOST, tool_call_id=key, name=call["name"], status="error")
            found.append(_short(answers.get(key, lost)))
    return found


def window(messages: Sequence[AnyMessage], tokens: int) -> list[AnyMessage]:
    """The newest messages of a conversation, in about `tokens` tokens; calls keep their answers.

    Whole turns are dropped, the oldest first. Of the last turn earlier calls are dropped, but never
    its question.
    """
    left = completed(messages)
    while count_tokens_approximately(left) > tokens:
        starts = [i for i, message in enumerate(left) if isinstance(message, HumanMessage)]
        if len(starts) > 1:
            left = left[starts[1] :]
            continue
        rounds = [i for i, message in enumerate(left) if isinstance(message, AIMessage)]
        if len(rounds) < 2:
            break
        left = left[: rounds[0]] + left[rounds[1] :]
    return left


def _short(message: ToolMessage) -> ToolMessage:
    text = message.text
    if len(text) <= MOST_CHARACTERS:
        return message
    cut = f"{text[:MOST_CHARACTERS]}\n... ({len(text) - MOST_CHARACTERS} characters more)"
    return message.model_copy(update={"content": cut})
