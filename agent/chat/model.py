"""The model of a chat: an OpenAI-compatible endpoint, or a script."""

from __future__ import annotations

import contextvars
import queue
import re
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx2
import openai
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk, AnyMessage
from langchain_core.tools import BaseTool
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from lm_searcher.agent.chat.reply import Reply
from lm_searcher.agent.chat.scripted import ScriptedModel
from lm_searcher.agent.chat.settings import SCRIPTED, ChatSettings
from lm_searcher.spaces.errors import ChatError
from lm_searcher.tools.llm.client import OVERFLOW, Client, Refused
from lm_searcher.tools.llm.retry import Unanswered
from lm_searcher.tools.llm.transport import http_client
from lm_searcher.tools.protocols import Cancelled

NO_TOOLS = re.compile(r"tool|function.?call", re.IGNORECASE)
OUTSIDE = (openai.OpenAIError, httpx2.HTTPError, OSError)
"""Errors of the connection and of the server."""
UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError)
"""What langchain-openai and the SDK raise for a body that is no stream of completions."""


MOST_BYTES = 16 * 2**20
"""The most bytes of one answer; a streamed token takes a few hundred."""


class ChatModel:
    """Answers a conversation. The API key appears in no message."""

    def __init__(
        self,
        model: BaseChatModel,
        title: str,
        told: Callable[[Exception], ChatError],
        patience: float,
    ) -> None:
        self.model, self.title, self._told, self.patience = model, title, told, patience

    @classmethod
    def open(
        cls, name: str, url: str | None, key_env: str | None, timeout: float = 120.0
    ) -> ChatModel:
        """``scripted:FILE``, or a model at a URL; nothing is sent yet. Raises UserError."""
        if name.startswith(SCRIPTED):
            path = Path(name.removeprefix(SCRIPTED))
            return cls(ScriptedModel.load(path), f"the script '{path.name}'", _as_it_is, timeout)
        settings = ChatSettings.given(name, url, key_env, timeout)
        client = Client(settings)
        model = ChatOpenAI(
            model=settings.model,
            base_url=settings.url,
            api_key=SecretStr(settings.key()),
            timeout=settings.timeout,
            max_retries=2,
            http_client=http_client(settings, MOST_BYTES),
            use_responses_api=False,  # compatible servers speak chat.completions
        )
        title = f"'{settings.model}' at {settings.url}"
        return cls(model, title, lambda error: _told(error, client), timeout)

    def reply(
        self, messages: Sequence[AnyMessage], tools: Sequence[BaseTool], stop: threading.Event
    ) -> Reply:
        """The model's answer, which is also streamed to the graph's listeners.

        Raises ChatError; Cancelled once `stop` is set.
        """
        warnings.filterwarnings("ignore", "Pydantic serializer warnings", UserWarning)
        try:
            return Reply.of(self._arriving(messages, tools, stop))
        except (*OUTSIDE, *UNREADABLE, Unanswered) as error:
            raise self._told(error) from None

    def _arriving(
        self, messages: Sequence[AnyMessage], tools: Sequence[BaseTool], stop: threading.Event
    ) -> Iterator[AIMessageChunk]:
        """The pieces as they arrive, from a thread. The thread is abandoned when nobody waits for
        it anymore, because a blocking read cannot be cancelled."""
        pieces: queue.SimpleQueue[Any] = queue.SimpleQueue()

        def work() -> None:
            try:
                for piece in self.model.bind_tools(tools).stream(list(messages)):
                    pieces.put(piece)
                pieces.put(None)
            except Exception as error:
                pieces.put(error)

        context = contextvars.copy_context()  # holds the graph's callbacks
        threading.Thread(target=context.run, args=(work,), name="chat model", daemon=True).start()
        heard = time.monotonic()
        while True:
            if stop.is_set():
                raise Cancelled
            try:
                piece = pieces.get(timeout=0.1)
            except queue.Empty:
                if time.monotonic() - heard > self.patience:
                    raise Unanswered(f"nothing within {self.patience:g} s") from None
                continue
            heard = time.monotonic()
            if piece is None:
                return
            if isinstance(piece, Exception):
                raise piece
            if isinstance(piece, AIMessageChunk):
                yield piece


def _as_it_is(error: Exception) -> ChatError:
    return ChatError(f"chat model: {error}")


def _told(error: Exception, client: Client) -> ChatError:
    """The error as one line without secrets."""
    role = client.settings.ROLE
    if isinstance(error, Unanswered):
        return ChatError(f"{role}: no answer from '{client.settings.url}' ({error})")
    if isinstance(error, UNREADABLE) and not isinstance(error, OUTSIDE):
        return ChatError(f"{role}: '{client.settings.url}' answers with no stream of completions")
    if isinstance(error, openai.OpenAIError) and isinstance(error.__cause__, openai.OpenAIError):
        error = error.__cause__  # langchain-openai's own words around the SDK's
    found = client.translated(error)
    words: Any = str(found)
    if isinstance(found, Refused):
        if NO_TOOLS.search(words):
            return ChatError(f"{role}: '{client.settings.model}' takes no tool calls ({words})")
        longer = " The conversation may be too long for it: give a smaller --context."
        hint = longer if OVERFLOW.search(words) else ""
        return ChatError(f"{role}: '{client.settings.model}' refuses the request ({words}).{hint}")
    if isinstance(found, Unanswered):
        return ChatError(f"{role}: no answer from '{client.settings.url}' ({words})")
    return ChatError(words)
