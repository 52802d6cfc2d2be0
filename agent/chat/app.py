"""One line of the chat at a time: a command or a sentence for the model, and what it prints."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lm_searcher.agent.chat import rendering, slash
from lm_searcher.agent.chat.command_search import closest
from lm_searcher.agent.chat.interrupts import interruptible
from lm_searcher.agent.chat.run_watcher import watch
from lm_searcher.agent.chat.session import Event, Question, Session
from lm_searcher.agent.chat.slash_values import description
from lm_searcher.agent.chat.terminal import Lines
from lm_searcher.agent.chat.turn_view import turn_view
from lm_searcher.agent.toolbox.processes import running
from lm_searcher.agent.toolbox.registry import TOOLS, call, question
from lm_searcher.agent.toolbox.result import ToolResult
from lm_searcher.agent.toolbox.workspace import Workspace
from lm_searcher.spaces.errors import ChatError, UserError
from lm_searcher.tools.protocols import Cancelled

CONNECT = "lm-searcher chat --model MODEL [--base-url URL]"


class Conversation:
    """Handles a user's lines, with a model or without."""

    def __init__(
        self,
        console: Console,
        lines: Lines,
        workspace: Workspace,
        session: Session | None,
        yes: bool = False,
    ) -> None:
        self.console, self.lines, self.workspace = console, lines, workspace
        self.session, self.yes = session, yes

    def handle(self, line: str) -> bool:
        """Handle one line; False if the user leaves. A user's mistake is printed in red."""
        line = line.strip()
        try:
            if line.startswith("/"):
                return self._command(slash.parse(line))
            if line and self.session is None:
                near = closest(line)
                self._note(f"No model is connected ({CONNECT}). Nearest command: /{near}")
            elif line and self.session is not None:
                self._turn(self.session, self.session.say(line))
        except UserError as error:
            self._print_error(error)
        except (KeyboardInterrupt, Cancelled):
            self._note("(stopped)")
        return True

    def open_question(self) -> None:
        """Ask the question that was open when the session was left."""
        if self.session is None or (asked := self.session.open_question) is None:
            return
        try:
            self._turn(self.session, self.session.consent(self._ask(asked.question)))
        except UserError as error:
            self._print_error(error)
        except (KeyboardInterrupt, Cancelled):
            self._note("(stopped)")

    # -- with a model --------------------------------------------------------------------------

    def _turn(self, session: Session, events: Iterable[Event]) -> None:
        """Show a turn until its end, asking the user where a call must be confirmed."""
        while True:
            asked = None
            with interruptible(self.workspace):
                asked = self._show(events)
            if asked is None:
                return
            events = session.consent(self._ask(asked.question))

    def _show(self, events: Iterable[Event]) -> Question | None:
        asked = None
        with turn_view(self.console) as view:
            for event in events:
                view(event)
                if self.workspace.interrupted.is_set():
                    raise KeyboardInterrupt
                asked = event if isinstance(event, Question) else None
        if view.silent:
            self._note("(the model says nothing)")
        return asked

    # -- without -------------------------------------------------------------------------------

    def _command(self, command: slash.Command) -> bool:
        if command.name == "quit":
            return False
        if command.name == "help":
            self._help(*command.words[:1])
        elif command.name == "watch":
            run = command.words[0] if command.words else None
            self._note(watch(self.console, self.workspace, run).summary())
        else:
            self._call(command)
        return True

    def _call(self, command: slash.Command) -> None:
        asked = question(self.workspace, command.name, command.arguments)
        if asked is not None and not self._ask(asked):
            self._note("not done")
            return
        with interruptible(self.workspace):
            result = call(self.workspace, command.name, command.arguments)
        if result.error:
            rendering.say(self.console, result.summary, "red")
        else:
            self.console.print(rendering.shown(result))

    def _help(self, name: str = "") -> None:
        if not name:
            table = Table.grid(padding=(0, 2))
            for command, about in slash.names().items():
                text = Text(about, no_wrap=True, overflow="ellipsis")
                table.add_row(Text(f"/{command}", style="cyan"), text)
            self.console.print(table)
            return
        tool = slash.tool_of(name.removeprefix("/"))
        if tool in slash.OWN:
            rendering.say(self.console, f"/{tool}: {slash.OWN[tool]}")
            return
        self.console.print(Text(slash.usage(TOOLS[tool]), style="cyan"))
        self.console.print(Text(TOOLS[tool].description))
        grid = Table.grid(padding=(0, 2))
        properties = TOOLS[tool].schema.get("properties", {})
        for key in slash.order(TOOLS[tool]):
            grid.add_row(Text(f"  {key.replace('_', '-')}"), Text(description(properties[key])))
        self.console.print(grid)

    # -- both ----------------------------------------------------------------------------------

    def _ask(self, asked: str) -> bool:
        """Print what would run, then ask for a confirmation."""
        first, *rest = [line for line in rendering.clean(asked).splitlines() if line.strip()]
        for line in rest:
            self.console.print(Text(f"  {line}", style="yellow"))
        if self.yes:
            self._note(f"{first} (yes: --yes)")
            return True
        return self.lines.yes(first)

    def announce(self, result: ToolResult) -> None:
        """Print that a run has ended."""
        rendering.say(self.console, f"* {result.summary}", "bold green")

    def may_leave(self) -> bool:
        """Ask what to do with running searches; False if the user stays."""
        left = running(self.workspace)
        if not left:
            return True
        names = ", ".join(left)
        if not self.lines.interactive:
            self._note(f"still running: {names}")
            return True
        while True:
            choice = self.lines.choice(
                f"{names} still running: leave running, stop or cancel? [L/s/c] "
            )
            if choice in ("", "l", "leave"):
                return True
            if choice in ("c", "cancel"):
                return False
            if choice in ("s", "stop"):
                for name in left:
                    self.announce(call(self.workspace, "stop", {"run": name}))
                return True

    def _note(self, text: str) -> None:
        rendering.say(self.console, text, "dim")

    def _print_error(self, error: UserError) -> None:
        rendering.say(self.console, str(error), "red")
        if isinstance(error, ChatError) and str(error).startswith("chat model"):
            self._note("The searches and the session go on; slash commands work: /help")
