"""The command line. Heavy modules are imported by the command that needs them."""

from __future__ import annotations

import sys
from importlib.metadata import entry_points
from typing import Annotated, cast

import typer

from lm_searcher.agent.cli.agents import agent, chat, mcp
from lm_searcher.agent.cli.dashboard import dashboard
from lm_searcher.agent.cli.export import export
from lm_searcher.agent.cli.inspect import decode, report, runs, schema, show, spaces
from lm_searcher.agent.cli.migrate import migrate
from lm_searcher.agent.cli.replay import replay
from lm_searcher.agent.cli.run import RunCommand, run
from lm_searcher.agent.cli.train_ranker import train_ranker
from lm_searcher.agent.cli.worker import worker
from lm_searcher.spaces.errors import UserError

ClickException = cast("type[typer.BadParameter]", typer.BadParameter.__mro__[2])
"""The base class of errors in a command line; typer has no public name for it."""

app = typer.Typer(
    name="lm-searcher",
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.callback()
def options(
    verbose: Annotated[
        int,
        typer.Option(
            "--verbose", "-v", count=True, help="Log to the standard error; -vv logs more."
        ),
    ] = 0,
) -> None:
    """Find the best architecture with few expensive trainings."""
    if verbose:
        from lm_searcher.tools.logs import configure_logging

        configure_logging(verbose)


app.add_typer(train_ranker, name="train-ranker")
app.command(cls=RunCommand)(run)
for command in (
    *(show, runs, spaces, decode, report, dashboard, export, migrate, replay, schema),
    *(worker, chat, agent, mcp),
):
    app.command()(command)


def main() -> None:
    """The entry point: a user's mistake is one line and exit code 2."""
    for entry in entry_points(group="lm_searcher.commands"):  # evals, which agent may not import
        app.command(entry.name)(entry.load())
    try:
        sys.exit(app(args=sys.argv[1:] or ["--help"], standalone_mode=False))
    except UserError as error:
        print(f"lm-searcher: {error}", file=sys.stderr)
        sys.exit(2)
    except ClickException as error:  # an argument that the command does not take
        print(f"lm-searcher: {error.format_message()}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # the reader of the output has exited
        sys.stderr.close()
        sys.exit(1)


if __name__ == "__main__":
    main()
