"""A chat model behind an OpenAI-compatible server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from langchain_core.messages import AIMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver

from lm_searcher.agent.chat.graph import Chat
from lm_searcher.agent.chat.model import ChatModel
from lm_searcher.agent.chat.session import Returned, Said, Session
from lm_searcher.agent.toolbox.workspace import Workspace
from lm_searcher.spaces.errors import UserError

KEY = "sk-Th1s-must-n0t-be-seen"


@pytest.fixture
def session(workspace: Workspace, loopback: Any, monkeypatch: pytest.MonkeyPatch) -> Session:
    """Talks to the loopback server."""
    monkeypatch.setenv("MY_KEY", KEY)
    model = ChatModel.open("some/model", loopback.url, "MY_KEY", timeout=2)
    model.model.max_retries = 0  # type: ignore[attr-defined]
    model.model.root_client.max_retries = 0  # type: ignore[attr-defined]
    return Session(Chat(workspace, model, lambda: "You help."), InMemorySaver(), "test")


def answers(loopback: Any, *given: Any) -> None:
    """What the server does with each request in turn."""
    names: Iterator[str] = iter([str(i) for i in range(len(given))])
    loopback.answers |= {str(i): answer for i, answer in enumerate(given)}
    loopback.script = names


def refused(session: Session) -> str:
    with pytest.raises(UserError) as caught:
        list(session.say("hello"))
    message = str(caught.value)
    assert "\n" not in message and KEY not in message and len(message) < 400
    return message


def test_calls_in_fragments_several_at_once(
    session: Session, loopback: Any, streams: Any, fragments: Any
) -> None:
    first = fragments(0, "a", "describe_space", '{"space": "nb201"}')
    second = fragments(1, "b", "describe_space", '{"space": "nb202"}')
    third = fragments(2, "b", "nothing_such", "")  # an id that is taken
    mixed = [*first[:2], *second[:1], *first[2:], *second[1:], *third]
    answers(loopback, streams("I ", "look.", *mixed, finish="tool_calls"), streams("Do", "ne."))
    events = list(session.say("hello"))
    assert [e.text for e in events if isinstance(e, Said)] == ["I ", "look.", "Do", "ne."]
    results = [e for e in events if isinstance(e, Returned)]
    assert [r.error for r in results] == [False, True, True]
    assert "did you mean 'nb201'" in results[1].text and "not a valid tool" in results[2].text
    again = loopback.requests[1]["messages"]
    assert [m["role"] for m in again] == ["system", "user", "assistant", "tool", "tool", "tool"]
    ids = [call["id"] for call in again[2]["tool_calls"]]
    assert ids[:2] == ["a", "b"] and ids == [m["tool_call_id"] for m in again[3:]]
    names = {tool["function"]["name"] for tool in loopback.requests[0]["tools"]}
    assert {"start_search", "status", "best"} <= names
    assert not names & {"shell", "read_file"}
    assert f"Bearer {KEY}" in loopback.headers[0]


def test_a_call_that_is_cut_off_is_not_run(
    session: Session, loopback: Any, streams: Any, fragments: Any
) -> None:
    half = fragments(0, "a", "describe_space", '{"space": "nb201"')
    answers(loopback, streams(*half, finish=None, done=False), streams("Again?"))
    events = list(session.say("hello"))
    result = next(e for e in events if isinstance(e, Returned))
    assert result.error and "no valid JSON" in result.text
    sent = loopback.requests[1]["messages"][2]["tool_calls"][0]["function"]["arguments"]
    assert json.loads(sent) == {}, "some servers refuse a history with half an object in it"


ERROR = json.dumps({"error": {"message": f"key {KEY} is wrong", "code": None}})


def failing(status: str, body: str = ERROR) -> Callable[..., None]:
    text = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return lambda server, to, request: to.sendall(f"{text}\r\n{body}".encode())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (failing("401 Unauthorized"), "refuses the key (HTTP 401)"),
        (failing("403 Forbidden"), "forbids the use of this model or key"),
        (failing("404 Not Found"), "the model's name or the URL is wrong"),
        (failing("400 Bad Request", '{"error": {"message": "x does not support tools"}}'),
         "'some/model' takes no tool calls"),
        (failing("400 Bad Request", '{"error": {"message": "maximum context length"}}'),
         "HTTP 400: maximum context length). The conversation may be too long"),
        (failing("500 Internal Server Error"), "no answer from"),
        (failing("200 OK", "<html>"), "answer"),
        (failing("200 OK", '{"choices": 5}'), "answer"),
        (lambda server, to, request: None, "no answer from"),
    ],
)  # fmt: skip
def test_what_goes_wrong_is_a_line_and_the_session_goes_on(
    session: Session, loopback: Any, streams: Any, answer: Any, expected: str
) -> None:
    answers(loopback, answer, streams("Back."))
    message = refused(session)
    assert message.startswith("chat model: ") and expected in message
    assert "".join(e.text for e in session.say("and now?") if isinstance(e, Said)) == "Back."


def test_a_server_that_dies_in_the_middle(
    session: Session, loopback: Any, streams: Any, fragments: Any
) -> None:
    """After a tool was run: the call and its result stay in the conversation."""
    call = fragments(0, "a", "list_spaces", "{}")
    answers(loopback, streams(*call), lambda *_: None, streams("Back."))
    assert "no answer" in refused(session)
    assert [type(m) for m in session.messages[-2:]] == [AIMessage, ToolMessage]
    assert [e for e in session.say("go on")] == [Said("Back.")]
    roles = [m["role"] for m in loopback.requests[-1]["messages"]]
    assert roles == ["system", "user", "assistant", "tool", "user"]


def test_garbage_in_a_stream_is_a_line(session: Session, loopback: Any) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
    for body in (b"data: {nonsense\n\n", b'data: {"choices": [{"delta": 7}]}\n\n', b"data: 5\n\n"):
        answers(loopback, lambda s, to, r, body=body: to.sendall(head + body))
        assert "answer" in refused(session)


@pytest.mark.slow
def test_a_stream_that_says_nothing_more_is_ended(
    session: Session, loopback: Any, streams: Any
) -> None:
    def slow(server: Any, to: Any, request: Any) -> None:
        streams("A", finish=None, done=False)(server, to, request)
        while not server.stopping.wait(0.05):
            to.sendall(b": keep-alive\n\n")

    answers(loopback, slow)
    assert "(nothing within 2 s)" in refused(session)


def test_no_server(workspace: Workspace) -> None:
    model = ChatModel.open("m", "http://127.0.0.1:9/v1", None, timeout=2)
    model.model.root_client.max_retries = 0  # type: ignore[attr-defined]
    session = Session(Chat(workspace, model, lambda: ""), InMemorySaver(), "test")
    assert "no answer from 'http://127.0.0.1:9/v1' (no server at" in refused(session)


@pytest.mark.parametrize(
    ("name", "url", "key_env", "expected"),
    [
        ("m", "localhost:8000", None, "is no URL"),
        ("m", "http://me:secret@host/v1", None, "a user, a password or a query"),
        ("m", "https://host/v1", "NOT_SET", "variable NOT_SET holds no key"),
        ("a b", "http://localhost/v1", None, "accepted: --model"),
        ("scripted:nowhere.json", None, None, "cannot be read"),
    ],
)
def test_mistakes(name: str, url: str | None, key_env: str | None, expected: str) -> None:
    with pytest.raises(UserError, match=expected) as caught:
        ChatModel.open(name, url, key_env)
    assert "ranker" not in str(caught.value)


def test_a_script_that_is_none(tmp_path: Any) -> None:
    path = tmp_path / "s.json"
    for text, expected in (("[", "no JSON"), ('[{"say": 1}]', r"0\.say"), ("5", "top")):
        path.write_text(text)
        with pytest.raises(UserError, match=expected):
            ChatModel.open(f"scripted:{path}", None, None)
