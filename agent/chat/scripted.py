"""A chat model that replays a script, for tests and demonstrations without a server.

    [{"content": "I begin.", "tool_calls": [{"name": "start_search", "args": {"trials": 5}}]},
     {"content": "It runs."}]

One entry per reply. Arguments given as text are sent unchanged, even if malformed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.language_models.chat_models import generate_from_stream
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, TypeAdapter, ValidationError

from lm_searcher.spaces.errors import ChatError

END = "(The script has ended.)"


class ScriptedCall(BaseModel):
    """One tool call of a reply."""

    model_config = ConfigDict(extra="forbid")
    name: str
    args: dict[str, Any] | str = Field(default_factory=dict)


class ScriptedReply(BaseModel):
    """One reply."""

    model_config = ConfigDict(extra="forbid")
    content: str = ""
    tool_calls: list[ScriptedCall] = Field(default_factory=list)


class ScriptedModel(BaseChatModel):
    """Streams the replies one after the other, in fragments as servers do; prompts are ignored."""

    replies: list[ScriptedReply]
    _given: int = PrivateAttr(default=0)

    @classmethod
    def load(cls, path: Path) -> ScriptedModel:
        """The model of a JSON file. Raises ChatError if the file is no script."""
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            return cls(replies=TypeAdapter(list[ScriptedReply]).validate_python(document))
        except OSError as error:
            raise ChatError(f"script '{path}' cannot be read: {error.strerror}") from None
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(map(str, first["loc"]))
            raise ChatError(f"script '{path}', {place or 'top'}: {first['msg']}") from None
        except (ValueError, RecursionError) as error:
            raise ChatError(f"script '{path}' is no JSON: {error}") from None

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(
        self, tools: Sequence[Any], *, tool_choice: str | None = None, **kwargs: Any
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Return the model itself: the script already names its tools."""
        return self

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return generate_from_stream(self._stream(messages, stop, run_manager, **kwargs))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        number, self._given = self._given, self._given + 1
        left = self.replies[number:]
        reply = left[0] if left else ScriptedReply(content=END)
        for chunk in self._chunks(reply, number):
            generation = ChatGenerationChunk(message=chunk)
            if run_manager is not None:
                run_manager.on_llm_new_token(chunk.text, chunk=generation)
            yield generation

    def _chunks(self, reply: ScriptedReply, number: int) -> Iterator[AIMessageChunk]:
        for word in re.findall(r"\S+\s*|\s+", reply.content):
            yield AIMessageChunk(content=word)
        for i, call in enumerate(reply.tool_calls):
            args = call.args if isinstance(call.args, str) else json.dumps(call.args)
            half, key = len(args) // 2, f"script-{number}-{i}"
            first = tool_call_chunk(name=call.name, args=args[:half], id=key, index=i)
            yield AIMessageChunk(content="", tool_call_chunks=[first])
            rest = tool_call_chunk(args=args[half:], index=i)
            yield AIMessageChunk(content="", tool_call_chunks=[rest])
        yield AIMessageChunk(content="", response_metadata={"finish_reason": "stop"})
