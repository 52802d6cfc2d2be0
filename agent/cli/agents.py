"""The commands `chat` and `agent`. What they need is loaded when they run."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lm_searcher.spaces.errors import ChatError

if TYPE_CHECKING:
    from lm_searcher.agent.chat.model import ChatModel
    from lm_searcher.agent.toolbox.workspace import Workspace

Model = Annotated[
    str | None, typer.Option(help="The chat model's name at the server, or scripted:FILE.json.")
]
BaseUrl = Annotated[
    str | None, typer.Option(help="An OpenAI-compatible server; default: OpenAI's own.")
]
KeyEnv = Annotated[
    str | None, typer.Option(help="The variable that holds the key; default: OPENAI_API_KEY.")
]
Folder = Annotated[Path, typer.Option(help="Where runs are kept.")]
Functions = Annotated[list[str] | None, typer.Option(help='A "module:function" that may measure.')]
Rankers = Annotated[
    list[str] | None, typer.Option(help="A ranker that may be used beside the built-in ones.")
]
Data = Annotated[Path | None, typer.Option(help="Where CIFAR's python folders lie.")]
Context = Annotated[
    int, typer.Option(min=1000, help="Tokens of the conversation that the model is sent at most.")
]
RUNS, CONTEXT = Path("runs"), 24_000


def chat(
    session: Annotated[
        str, typer.Option(help="The conversation's name; goes on with it.")
    ] = "main",
    model: Model = None,
    base_url: BaseUrl = None,
    key_env: KeyEnv = None,
    folder: Folder = RUNS,
    yes: Annotated[bool, typer.Option("--yes", help="Do what costs without asking.")] = False,
    free_trials: Annotated[
        int, typer.Option(min=0, help="Trials that are started without asking.")
    ] = 0,
    function: Functions = None,
    ranker: Rankers = None,
    data: Data = None,
    context: Context = CONTEXT,
) -> None:
    """Drive searches by talking, or by slash commands without a model."""
    from rich.console import Console

    from lm_searcher.agent.chat.repl import run_chat

    workspace = workspace_of(folder, free_trials, function, ranker, data)
    console = Console(markup=False, emoji=False, highlight=False)
    run_chat(workspace, model_of(model, base_url, key_env), session, yes, console, context)


def agent(
    task: Annotated[str, typer.Argument(help="What to do, in words.")],
    model: Model = None,
    base_url: BaseUrl = None,
    key_env: KeyEnv = None,
    folder: Folder = RUNS,
    yes: Annotated[bool, typer.Option("--yes", help="Allow what costs.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the transcript as JSON.")] = False,
    max_steps: Annotated[int, typer.Option(min=1, help="Replies of the model at most.")] = 30,
    max_trials: Annotated[int, typer.Option(min=0, help="Trials started at most.")] = 200,
    function: Functions = None,
    ranker: Rankers = None,
    data: Data = None,
    context: Context = CONTEXT,
) -> None:
    """Do a task without a person; exit code 0 only if the search that it asks for finished."""
    from rich.console import Console

    from lm_searcher.agent.chat.interrupts import interruptible
    from lm_searcher.agent.chat.turn_view import turn_view
    from lm_searcher.agent.chat.unattended import run_task
    from lm_searcher.tools.protocols import Cancelled

    opened = model_of(model, base_url, key_env)
    if opened is None:
        raise ChatError("agent needs a model: --model MODEL [--base-url URL] [--key-env NAME]")
    workspace = workspace_of(folder, max_trials if yes else 0, function, ranker, data)
    console = Console(markup=False, emoji=False, highlight=False, quiet=as_json)
    try:
        with interruptible(workspace), turn_view(console) as show:
            done = run_task(
                task, workspace, opened, yes=yes, max_steps=max_steps, observe=show, context=context
            )
    except (KeyboardInterrupt, Cancelled):
        print("stopped; searches that were started go on", file=sys.stderr)
        raise typer.Exit(130) from None
    if as_json:
        print(json.dumps(done.to_json(), indent=1, allow_nan=False))
    if done.error:
        print(f"lm-searcher: {done.error}", file=sys.stderr)
    raise typer.Exit(0 if done.finished and not done.error else 1)


def model_of(model: str | None, base_url: str | None, key_env: str | None) -> ChatModel | None:
    """The model that was named; None if none was. Raises UserError."""
    if model is None:
        if base_url is not None or key_env is not None:
            raise ChatError("--base-url and --key-env want --model MODEL beside them")
        return None
    from lm_searcher.agent.chat.model import ChatModel

    return ChatModel.open(model, base_url, key_env)


def workspace_of(
    folder: Path,
    budget: int,
    functions: list[str] | None,
    rankers: list[str] | None,
    data: Path | None,
) -> Workspace:
    """The workspace that tools may work in."""
    from lm_searcher.agent.toolbox.workspace import Workspace

    return Workspace(folder, budget, tuple(functions or ()), tuple(rankers or ()), data)
