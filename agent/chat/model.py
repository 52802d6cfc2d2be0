"""The model of a chat: an OpenAI-compatible endpoint, or a script."""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Callable, Sequence
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
from lm_searcher.tools.rankers.endpoint.client import Client, Refused, bounded
from lm_searcher.tools.rankers.endpoint.retry import Unanswered

NO_TOOLS = re.compile(r"tool|function.?call", re.IGNORECASE)
OUTSIDE = (openai.OpenAIError, httpx2.HTTPError, OSError)
"""What goes wrong between here and the server."""
UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError)
"""What langchain-openai and the SDK raise for a body that is no stream of completions."""


class ChatModel:
    """Answers a conversation. The key is shown nowhere."""

    def __init__(
        self, model: BaseChatModel, title: str, told: Callable[[Exception], ChatError]
    ) -> None:
        self.model, self.title, self._told = model, title, told

    @classmethod
    def open(
        cls, name: str, url: str | None, key_env: str | None, timeout: float = 120.0
    ) -> ChatModel:
        """``scripted:FILE``, or a model at a URL; nothing is sent yet. Raises UserError."""
        if name.startswith(SCRIPTED):
            path = Path(name.removeprefix(SCRIPTED))
            return cls(ScriptedModel.load(path), f"the script '{path.name}'", _as_it_is)
        settings = ChatSettings.given(name, url, key_env, timeout)
        client = Client(settings)
        model = ChatOpenAI(
            model=settings.model,
            base_url=settings.url,
            api_key=SecretStr(settings.key()),
            timeout=settings.timeout,
            max_retries=2,
            http_client=_http(settings),
            use_responses_api=False,  # compatible servers speak chat.completions
        )
        return cls(model, f"'{settings.model}' at {settings.url}", lambda e: _told(e, client))

    def reply(self, messages: Sequence[AnyMessage], tools: Sequence[BaseTool]) -> Reply:
        """The model's answer, streamed to whoever follows the graph. Raises ChatError."""
        try:
            stream = self.model.bind_tools(tools).stream(list(messages))
            return Reply.of(chunk for chunk in stream if isinstance(chunk, AIMessageChunk))
        except ChatError:
            raise
        except (*OUTSIDE, *UNREADABLE) as error:
            raise self._told(error) from None


def _http(settings: ChatSettings) -> httpx2.Client:
    """As the endpoint ranker's: bounded in time and size, no proxy before this machine itself."""

    def hook(response: httpx2.Response) -> None:
        deadline = time.monotonic() + settings.timeout
        bounded(lambda: time.monotonic() > deadline)(response)

    return httpx2.Client(
        timeout=httpx2.Timeout(settings.timeout, connect=min(settings.timeout, 10.0)),
        verify=ssl.create_default_context(),
        headers={"accept-encoding": "identity"},
        event_hooks={"response": [hook]},
        trust_env=not settings.on_loopback,
    )


def _as_it_is(error: Exception) -> ChatError:
    return ChatError(f"chat model: {error}")


def _told(error: Exception, client: Client) -> ChatError:
    """One line, with nothing secret in it."""
    role = client.settings.ROLE
    if isinstance(error, UNREADABLE) and not isinstance(error, OUTSIDE):
        return ChatError(f"{role}: '{client.settings.url}' answers with no stream of completions")
    found = client.told(error)
    words: Any = str(found)
    if isinstance(found, Refused):
        if NO_TOOLS.search(words):
            return ChatError(f"{role}: '{client.settings.model}' takes no tool calls ({words})")
        return ChatError(f"{role}: '{client.settings.model}' refuses the request ({words})")
    if isinstance(found, Unanswered):
        return ChatError(f"{role}: no answer from '{client.settings.url}' ({words})")
    return ChatError(words)
