"""The conversation's graph, with a model that follows a script."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.messages import AIMessage, ToolMessage

from lm_searcher.agent.chat.reply import MOST_CALLS
from lm_searcher.agent.chat.session import Called, Question, Returned, Said, Session
from lm_searcher.agent.toolbox.workspace import Workspace

Talk = Callable[..., Session]
SEARCH = ("start_search", {"evaluator": "table", "table": "grid.csv", "metric": "acc", "trials": 5})
SPACE = {"name": "mine", "positions": [{"name": "a", "choices": [1, 2]}]}


def returned(events: list[Any]) -> list[tuple[str, bool]]:
    return [(event.tool, event.error) for event in events if isinstance(event, Returned)]


def said(events: list[Any]) -> str:
    return "".join(event.text for event in events if isinstance(event, Said))


def answered(session: Session) -> None:
    """Each call has one answer, and no other."""
    calls = [c["id"] for m in session.messages if isinstance(m, AIMessage) for c in m.tool_calls]
    answers = [m.tool_call_id for m in session.messages if isinstance(m, ToolMessage)]
    assert sorted(calls) == sorted(answers) and len(set(calls)) == len(calls)


def test_a_turn(talk: Talk) -> None:
    session = talk(("list_spaces", {}), "There is nb201.")
    events = list(session.say("what is there?"))
    assert events[0] == Called("list_spaces", {})
    assert isinstance(events[1], Returned) and events[1].text.startswith("5 search spaces")
    assert len(events) > 4, "the answer comes in pieces"
    assert said(events) == "There is nb201."
    assert [m.type for m in session.messages] == ["human", "ai", "tool", "ai"]


def test_mistakes_go_back_to_the_model(talk: Talk) -> None:
    calls = [
        ("shell", {"command": "cat /etc/passwd"}),
        ("describe_space", {"space": "nowhere"}),
        ("describe_space", '{"space": "nb2'),
        ("describe_space", '["nb201"]'),
        ("describe_space", {"config": 1, "self": 2}),
        ("start_search", {"space": "nb201", "evaluator": "command"}),
        ("describe_space", {"space": "nb201"}),
    ]
    session = talk(calls, "I see.")
    events = list(session.say("go"))
    assert said(events) == "I see."
    assert [error for _, error in returned(events)].count(False) == 1
    texts = {m.text for m in session.messages if isinstance(m, ToolMessage)}
    for expected in (
        "shell is not a valid tool",
        "unknown space 'nowhere'",
        "no valid JSON",
        "no JSON object",
        "should be 'train', 'table', 'python' or 'lora'",
    ):
        assert any(expected in text for text in texts), expected
    answered(session)


def test_what_costs_is_asked_first(talk: Talk, workspace: Workspace) -> None:
    session = talk([("list_spaces", {}), SEARCH], "You declined.")
    events = list(session.say("search"))
    asked = events[-1]
    assert isinstance(asked, Question) and asked.tool == "start_search"
    assert "trials = 5" in asked.question and 'metric = "acc"' in asked.question
    assert session.open_question == asked and not workspace.names()
    events = list(session.consent(False))
    assert returned(events) == [("start_search", True)] and said(events) == "You declined."
    assert not workspace.names() and session.open_question is None
    answered(session)


def test_a_no_is_a_no_whatever_has_happened_since(talk: Talk, workspace: Workspace) -> None:
    """The call costs nothing any more when the person answers; their word counts still."""
    session = talk(
        ("define_space", SPACE), ("define_space", SPACE | {"replace": True}), "So be it."
    )
    assert isinstance(list(session.say("define it"))[-1], Question)
    (workspace.folder / "spaces" / "mine.toml").unlink()
    list(session.consent(False))
    assert not (workspace.folder / "spaces" / "mine.toml").exists()


def test_consent_given_beforehand(talk: Talk, workspace: Workspace) -> None:
    again = ("define_space", SPACE | {"replace": True})
    events = list(talk(("define_space", SPACE), again, "Done.", consent="yes").say("go"))
    assert returned(events) == [("define_space", False)] * 2
    events = list(talk(again, "I may not.", consent="no").say("go"))
    assert returned(events) == [("define_space", True)] and said(events) == "I may not."


def test_a_cap_holds_whatever_is_consented_to(talk: Talk, workspace: Workspace) -> None:
    workspace.budget_trials = 4
    again = ("define_space", SPACE | {"replace": True})
    session = talk(("define_space", SPACE), [again, SEARCH], "No.", consent="yes", capped=True)
    events = list(session.say("go"))
    assert returned(events)[1:] == [("define_space", False), ("start_search", True)]
    assert "beyond the budget" in session.messages[-2].text and not workspace.names()


@pytest.mark.parametrize("steps", [1, 3])
def test_an_endless_wish_for_tools_is_bounded(talk: Talk, steps: int) -> None:
    session = talk(*[("list_spaces", {})] * 50, max_steps=steps)
    events = list(session.say("go"))
    assert f"Stopped after {steps} replies" in said(events)
    assert len([e for e in events if isinstance(e, Called)]) == steps
    answered(session)
    assert said(list(session.say("again"))).startswith("Stopped"), "and the session goes on"


def test_many_calls_at_once_are_bounded(talk: Talk) -> None:
    session = talk([("list_spaces", {})] * 40, "Enough.", max_steps=2)
    events = list(session.say("go"))
    assert [error for _, error in returned(events)].count(False) == MOST_CALLS
    assert said(events) == "Enough."
    answered(session)
