"""`lm-searcher train-ranker`: a command for each ranker that can be trained."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from lm_searcher.tools.rankers.lm.finetuning.settings import LMTrainConfig
    from lm_searcher.tools.rankers.lm.finetuning.training_data import TrainingData

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

    from lm_searcher.agent.cli.training_view import TrainingView
    from lm_searcher.agent.loop.signals import stop_on_ctrl_c
    from lm_searcher.agent.settings.train_ranker import load_incontext
    from lm_searcher.tools.rankers.incontext.pretraining.train import pretrain

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
            finished = pretrain(settings, command, view, stop)
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


Out = Annotated[Path | None, typer.Option(help="Folder of checkpoints and model.")]
Seed = Annotated[int | None, typer.Option(help="Seed of weights and samples.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu or cuda.")]


@train_ranker.command()
def lm(
    config: Annotated[
        str,
        typer.Argument(
            help="A TOML file, or a preset: paper, paper-lora, tiny, small.",
            metavar="CONFIG.toml",
        ),
    ] = "",
    from_scratch: Annotated[
        str | None, typer.Option(help="Train a small model from nothing: tiny or small.")
    ] = None,
    base: Annotated[str | None, typer.Option(help="The model to begin from.")] = None,
    out: Out = None,
    samples: Annotated[int | None, typer.Option(help="Histories to train on.")] = None,
    seed: Seed = None,
    device: Device = None,
) -> None:
    """Fine-tune a language model to rank, or go on with a training."""
    from lm_searcher.agent.settings.train_lm import load_lm
    from lm_searcher.spaces.errors import ConfigError

    if not config and from_scratch is None:
        raise ConfigError("train-ranker lm: give a TOML file, a preset, or --from-scratch PRESET")
    given: dict[str, dict[str, Any]] = {}
    words = ["lm-searcher", "train-ranker", "lm", *([config] if config else [])]
    for section, key, value in (
        ("model", "from_scratch", from_scratch),
        ("model", "base", base),
        ("run", "out", out),
        ("data", "samples", samples),
        ("run", "seed", seed),
        ("run", "device", device),
    ):
        if value is not None:
            given.setdefault(section, {})[key] = value
            words += [f"--{key.replace('_', '-')}", str(value)]
    _fine_tune(load_lm(config or str(from_scratch), given), words)


@train_ranker.command()
def adapt(
    runs: Annotated[list[str], typer.Argument(help="Runs to learn from.", metavar="RUN...")],
    base: Annotated[str, typer.Option(help="The model to adapt: a directory or an id.")],
    out: Out = None,
    samples: Annotated[int, typer.Option(help="Sub-histories to train on.")] = 1000,
    candidates: Annotated[int, typer.Option(help="Candidates in a sample.", min=2)] = 10,
    seed: Seed = None,
    device: Device = None,
    folder: Annotated[Path, typer.Option(help="Where runs are kept.")] = Path("runs"),
    store: Annotated[str | None, typer.Option(help="Optuna storage URL.")] = None,
) -> None:
    """Fit a LoRA adapter to finished runs."""
    from lm_searcher.agent.cli.adapt_from_runs import adapting, training_data_of
    from lm_searcher.agent.cli.app import files_of

    words = ["lm-searcher", "train-ranker", "adapt", *runs]
    given: dict[str, Any] = {"base": base, "samples": samples, "candidates": candidates}
    given |= {"out": out, "seed": seed, "device": device}
    for key, value in (*given.items(), ("folder", folder), ("store", store)):
        if value is not None:
            words += [f"--{key}", str(value)]
    config = adapting(runs, given)
    _fine_tune(
        config, words, training_data_of([files_of(run, folder, store) for run in runs], config)
    )


def _fine_tune(config: LMTrainConfig, words: list[str], data: TrainingData | None = None) -> None:
    from rich.console import Console

    from lm_searcher.agent.cli.training_view import TrainingView, lm_line, lm_news
    from lm_searcher.agent.loop.signals import stop_on_ctrl_c
    from lm_searcher.tools.rankers.lm.finetuning.train import finetune

    command, console = shlex.join(words), Console(markup=False, emoji=False)
    try:
        with (
            stop_on_ctrl_c("saving a checkpoint") as stop,
            TrainingView(console, lm_line, lm_news) as view,
        ):
            finished = finetune(config, command, view, stop, data)
    except KeyboardInterrupt:
        finished = False
    if not finished:
        print(f"stopped; go on from the last checkpoint with: {command}", file=sys.stderr)
        raise typer.Exit(130)
    ranker = f"lm:{config.product}"
    console.print(
        f"wrote {config.product}: lm-searcher run ... --ranker {ranker}",
        soft_wrap=True,
        highlight=False,
    )
