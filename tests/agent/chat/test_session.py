"""Sessions that are open_saver."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lm_searcher.agent.chat.graph import Chat
from lm_searcher.agent.chat.model import ChatModel
from lm_searcher.agent.chat.session import Question, Said, Session, open_saver
from lm_searcher.agent.toolbox.workspace import Workspace
from lm_searcher.spaces.errors import ChatError, StoreError

SPACE = {"name": "mine", "positions": [{"name": "a", "choices": [1, 2]}]}


@pytest.fixture
def opened(workspace: Workspace, script: Callable[..., Path]) -> Callable[..., Session]:
    """A session over a saver, as a new process would open it."""

    def make(saver: Any, name: str, *replies: Any) -> Session:
        model = ChatModel.open(f"scripted:{script(*replies)}", None, None)
        return Session(Chat(workspace, model, lambda: ""), saver, name)

    return make


def test_a_session_goes_on(workspace: Workspace, opened: Callable[..., Session]) -> None:
    with open_saver(workspace, "one") as saver:
        session = opened(saver, "one", ("list_spaces", {}), "There is one.")
        list(session.say("what is there?"))
        before = session.messages
    size = (workspace.folder / ".chats" / "one.db").stat().st_size
    with open_saver(workspace, "one") as saver:
        session = opened(saver, "one", *["More."] * 20)
        assert session.messages == before and len(before) == 4
        for _ in range(20):
            list(session.say("and?"))
        assert len(session.messages) == 44
        rows = saver.conn.execute("SELECT COUNT(*) FROM checkpoints").fetchone()
        assert rows == (1,), "the file must not grow with the square of the conversation"
    assert size < 200_000
    with open_saver(workspace, "two") as saver:
        assert opened(saver, "two").messages == []


def test_a_question_that_was_open_is_open_again(
    workspace: Workspace, opened: Callable[..., Session]
) -> None:
    replace = ("define_space", SPACE | {"replace": True})
    with open_saver(workspace, "one") as saver:
        session = opened(saver, "one", ("define_space", SPACE), replace)
        assert isinstance(list(session.say("go"))[-1], Question)
    with open_saver(workspace, "one") as saver:
        session = opened(saver, "one", "Done.")
        assert session.open_question is not None and session.open_question.tool == "define_space"
        assert list(session.consent(True))[-1] == Said("Done.")


def test_a_question_left_open_is_passed_over_by_a_sentence(
    workspace: Workspace, opened: Callable[..., Session]
) -> None:
    replace = ("define_space", SPACE | {"replace": True})
    with open_saver(workspace, "one") as saver:
        session = opened(saver, "one", ("define_space", SPACE), replace, "Another thing.")
        list(session.say("go"))
        assert list(session.say("leave that")) == [Said("Another "), Said("thing.")]
        assert session.open_question is None


def test_one_chat_at_a_time(workspace: Workspace) -> None:
    with (
        open_saver(workspace, "one"),
        pytest.raises(ChatError, match="'one' is open in another chat"),
        open_saver(workspace, "one"),
    ):
        pass


def test_a_file_that_is_no_database(workspace: Workspace) -> None:
    (workspace.folder / ".chats").mkdir()
    (workspace.folder / ".chats" / "one.db").write_text("nonsense " * 1000)
    with pytest.raises(StoreError, match="no SQLite database"), open_saver(workspace, "one"):
        pass
