"""`lm-searcher train-ranker`: a command for each ranker that can be trained."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

train_ranker = typer.Typer(help="Train a ranker of your own.")


@train_ranker.command()
def incontext(
    config: Annotated[
        str, typer.Argument(help="A TOML file, or a preset: laptop, gpu.", metavar="CONFIG.toml")
    ],
    out: Annotated[Path | None, typer.Option(help="Folder of checkpoint and weights.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Time to train, altogether.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of weights and tasks.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that make up tasks.")] = None,
) -> None:
    """Pre-train the local ranker on synthetic landscapes, or go on with a training."""
    from rich.console import Console

    from lm_searcher.agent.interrupts import stop_on_ctrl_c
    from lm_searcher.agent.training_config import load_incontext
    from lm_searcher.agent.training_view import TrainingView
    from lm_searcher.tools.rankers.incontext.train import train

    given: dict[str, dict[str, Any]] = {}
    words = ["lm-searcher", "train-ranker", "incontext", config]
    for section, key, value in (
        ("run", "out", out),
        ("run", "minutes", minutes),
        ("run", "seed", seed),
        ("run", "device", device),
        ("data", "workers", workers),
    ):
        if value is not None:
            given.setdefault(section, {})[key] = value
            words += [f"--{key}", str(value)]
    settings, command = load_incontext(config, given), shlex.join(words)
    console = Console(markup=False, emoji=False)
    try:
        with stop_on_ctrl_c("saving a checkpoint") as stop, TrainingView(console) as view:
            finished = train(settings, command, view, stop)
    except KeyboardInterrupt:
        finished = False
    if not finished:
        print(f"stopped; go on from the last checkpoint with: {command}", file=sys.stderr)
        raise typer.Exit(130)
    weights = settings.out / "weights"
    console.print(
        f'wrote {weights}: in a run file, [ranker] name = "local", weights = "{weights}"',
        soft_wrap=True,
        highlight=False,
    )
