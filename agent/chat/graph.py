"""The chat as a LangGraph state machine.

    START -> think -> weigh -> approve -> act -> weigh ... -> think ... -> END

`think` asks the model. Its tool calls are handled one at a time: `weigh` finds out whether the user
must confirm the call, `approve` asks the user, and `act` runs it. After the last call the model is
asked again. `halt` ends a turn after too many replies.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, TypedDict

from langchain_core.messages import AIMessage, AnyMessage, SystemMessage, ToolCall, ToolMessage
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.prebuilt import ToolNode
from langgraph.runtime import Runtime
from langgraph.types import Send, interrupt

from lm_searcher.agent.chat.history_window import waiting, window
from lm_searcher.agent.chat.langchain_tools import toolset
from lm_searcher.agent.chat.model import ChatModel
from lm_searcher.agent.chat.reply import MOST_CALLS
from lm_searcher.agent.toolbox.registry import question
from lm_searcher.agent.toolbox.workspace import Workspace

DECLINED = "not run: the user declined. Do not call it again unless they ask for it"
NOT_ALLOWED = "not run: it needs --yes, and this program was started without. Do not call it again"


class ChatState(TypedDict, total=False):
    """What is stored of a session."""

    messages: Annotated[list[AnyMessage], add_messages]
    steps: int
    """The model's replies in this turn."""
    question: str
    """The question to the user before the next call; empty if there is none."""
    approved: str
    """The id of the call that may run now; empty if it was declined."""


@dataclass
class Chat:
    """What stays the same within a turn."""

    workspace: Workspace
    model: ChatModel
    system_prompt: Callable[[], str]
    """Makes the current system prompt."""
    consent: Literal["ask", "yes", "no"] = "ask"
    """The answer to calls that must be confirmed."""
    capped: bool = False
    """Whether calls beyond the workspace's budget are refused even with consent."""
    max_steps: int = 20
    context: int = 24_000
    """The most tokens of the conversation that the model is sent."""


def think(state: ChatState, runtime: Runtime[Chat]) -> dict[str, Any]:
    """Get the model's next reply. Calls that cannot run are answered at once."""
    chat = runtime.context
    messages = window(state["messages"], chat.context)
    tools = toolset(chat.workspace)
    sent = [SystemMessage(chat.system_prompt()), *messages]
    reply = chat.model.reply(sent, tools, chat.workspace.interrupted)
    return {"messages": [reply.message, *reply.answers], "steps": state["steps"] + 1}


def weigh(state: ChatState, runtime: Runtime[Chat]) -> dict[str, Any]:
    """Find the question that the next call needs, if any. It is stored: the answer must belong to
    the question that was shown."""
    chat, call = runtime.context, next_call(state)
    asked = question(chat.workspace, call["name"], call["args"])
    if asked is None or chat.consent == "ask":
        return {"question": asked or "", "approved": "" if asked else call["id"]}
    words = "" if chat.consent == "yes" else NOT_ALLOWED
    if not words and chat.capped and _over_budget(chat.workspace, call):
        words = f"not run: beyond the budget. {asked}"
    return {"question": "", **(_declined(call, words) if words else {"approved": call["id"]})}


def approve(state: ChatState) -> dict[str, Any]:
    """Ask the user. Nothing happens before the interrupt, which replays this node."""
    call = next_call(state)
    asked = {"tool": call["name"], "arguments": call["args"], "question": state["question"]}
    yes = interrupt(asked) is True
    return {"question": "", **({"approved": call["id"]} if yes else _declined(call, DECLINED))}


def _declined(call: ToolCall, words: str) -> dict[str, Any]:
    message = ToolMessage(words, tool_call_id=call["id"], name=call["name"], status="error")
    return {"messages": [message], "approved": ""}


def _over_budget(workspace: Workspace, call: ToolCall) -> bool:
    """Whether the call needs a confirmation only because of the workspace's budget."""
    free = replace(workspace, budget_trials=None)
    free.latest = workspace.latest
    return question(free, call["name"], call["args"]) is None


def halt(state: ChatState) -> dict[str, Any]:
    """End a turn that is too long, with an answer to every open call."""
    words = f"Stopped after {state['steps']} replies that all called tools. Ask on to continue."
    undone = [
        ToolMessage("not run: too many steps in one turn", tool_call_id=key, status="error")
        for key in waiting(state["messages"])
    ]
    return {"messages": [*undone, AIMessage(words)]}


def next_call(state: ChatState) -> ToolCall:
    """The first call of the latest reply that has no answer yet."""
    key = waiting(state["messages"])[0]
    replies = (m for m in reversed(state["messages"]) if isinstance(m, AIMessage))
    return next(call for call in next(replies).tool_calls if call["id"] == key)


def proceed(
    state: ChatState, runtime: Runtime[Chat]
) -> Literal["think", "weigh", "halt", "__end__"]:
    """The next node: for the next call, for the model after its last call, or the end."""
    newest = next(m for m in reversed(state["messages"]) if isinstance(m, AIMessage))
    if not newest.tool_calls:
        return "__end__"
    if state["steps"] >= runtime.context.max_steps:  # no reply would see these calls
        return "halt"
    return "weigh" if waiting(state["messages"]) else "think"


def run_or_ask(
    state: ChatState, runtime: Runtime[Chat]
) -> list[Send] | Literal["approve", "think", "weigh", "halt", "__end__"]:
    """The next node: the tool if its call is approved, the user if there is a question."""
    if state["approved"]:
        return [Send("act", [next_call(state)])]
    return "approve" if state["question"] else proceed(state, runtime)


def error_text(error: Exception) -> str:
    """The text that a model reads if a tool raises."""
    return str(error) or type(error).__name__


def build_chat(workspace: Workspace) -> StateGraph[ChatState, Chat, ChatState, ChatState]:
    """The graph of the chat in this workspace, to be compiled with a checkpointer."""
    graph = StateGraph(ChatState, context_schema=Chat)
    graph.add_node("think", think)
    graph.add_node("weigh", weigh)
    graph.add_node("approve", approve)
    graph.add_node("act", ToolNode(toolset(workspace), handle_tool_errors=error_text))
    graph.add_node("halt", halt)
    graph.add_edge(START, "think")
    for node in ("think", "act"):
        graph.add_conditional_edges(node, proceed)
    for node in ("weigh", "approve"):
        ways = ["act", "approve", "think", "weigh", "halt", END]
        graph.add_conditional_edges(node, run_or_ask, ways)
    graph.add_edge("halt", END)
    return graph


def recursion_limit(max_steps: int) -> int:
    """The most supersteps that a turn can take."""
    return (max_steps + 1) * (3 * MOST_CALLS + 1) + 5
