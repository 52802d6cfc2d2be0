"""`lm-searcher train-ranker`: a command for each ranker that can be trained."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lm_searcher.agent.cli.options import (
    RUNS,
    Folder,
    SettingsCommand,
    Store,
    files_of,
    overrides,
    plain_console,
    setting,
    words,
)

if TYPE_CHECKING:
    from lm_searcher.tools.rankers.lm.finetuning.settings import LMTrainConfig
    from lm_searcher.tools.rankers.lm.finetuning.training_data import TrainingData

train_ranker = typer.Typer(help="Train a ranker of your own.")

INCONTEXT = {
    "out": "run.out",
    "minutes": "run.minutes",
    "seed": "run.seed",
    "device": "run.device",
    "workers": "data.workers",
}
LM = {
    "from_scratch": "model.from_scratch",
    "base": "model.base",
    "out": "run.out",
    "samples": "data.samples",
    "seed": "run.seed",
    "device": "run.device",
}
"""The setting of each flag."""


class InContextCommand(SettingsCommand):
    """The command's flags set keys of the training file."""

    MODEL = "lm_searcher.agent.settings.train_ranker:InContextFile"


class LMCommand(SettingsCommand):
    """The commands' flags set keys of the training file."""

    MODEL = "lm_searcher.agent.settings.train_lm:LMFile"


@train_ranker.command(cls=InContextCommand)
def incontext(
    config: Annotated[
        str, typer.Argument(help="A TOML file, or a preset: laptop, gpu.", metavar="CONFIG.toml")
    ],
    out: Annotated[Path | None, setting(INCONTEXT["out"])] = None,
    minutes: Annotated[float | None, setting(INCONTEXT["minutes"])] = None,
    seed: Annotated[int | None, setting(INCONTEXT["seed"])] = None,
    device: Annotated[str | None, setting(INCONTEXT["device"])] = None,
    workers: Annotated[int | None, setting(INCONTEXT["workers"])] = None,
) -> None:
    """Pre-train the local ranker on synthetic landscapes, or go on with a training."""
    from lm_searcher.agent.cli.training_view import TrainingView
    from lm_searcher.agent.settings.train_ranker import load_incontext
    from lm_searcher.tools.rankers.incontext.pretraining.train import pretrain

    flags = {"out": out, "minutes": minutes, "seed": seed, "device": device, "workers": workers}
    settings = load_incontext(config, overrides(INCONTEXT, flags))
    command = shlex.join(["lm-searcher", "train-ranker", "incontext", config, *words(flags)])
    console = plain_console()
    with until_stopped(command) as stop, TrainingView(console) as view:
        finished = pretrain(settings, command, view, stop)
    check_finished(finished, command)
    weights = settings.out / "weights"
    console.print(
        f'wrote {weights}: in a run file, [ranker] name = "local", weights = "{weights}"',
        soft_wrap=True,
        highlight=False,
    )


Out = Annotated[Path | None, setting(LM["out"])]
Seed = Annotated[int | None, setting(LM["seed"])]
Device = Annotated[str | None, setting(LM["device"])]


@train_ranker.command(cls=LMCommand)
def lm(
    config: Annotated[
        str,
        typer.Argument(
            help="A TOML file, or a preset: paper, paper-lora, tiny, small.",
            metavar="CONFIG.toml",
        ),
    ] = "",
    from_scratch: Annotated[str | None, setting(LM["from_scratch"])] = None,
    base: Annotated[str | None, setting(LM["base"])] = None,
    out: Out = None,
    samples: Annotated[int | None, setting(LM["samples"])] = None,
    seed: Seed = None,
    device: Device = None,
) -> None:
    """Fine-tune a language model to rank, or go on with a training."""
    from lm_searcher.agent.settings.train_lm import load_lm
    from lm_searcher.spaces.errors import ConfigError

    if not config and from_scratch is None:
        raise ConfigError("train-ranker lm: give a TOML file, a preset, or --from-scratch PRESET")
    flags: dict[str, Any] = {"from_scratch": from_scratch, "base": base, "out": out}
    flags |= {"samples": samples, "seed": seed, "device": device}
    settings = load_lm(config or str(from_scratch), overrides(LM, flags))
    _fine_tune(settings, ["train-ranker", "lm", *([config] if config else []), *words(flags)])


@train_ranker.command(cls=LMCommand)
def adapt(
    runs: Annotated[list[str], typer.Argument(help="Runs to learn from.", metavar="RUN...")],
    base: Annotated[str, typer.Option(help="The model to adapt: a directory or an id.")],
    out: Out = None,
    samples: Annotated[int, typer.Option(help="Sub-histories to train on.")] = 1000,
    candidates: Annotated[int, typer.Option(help="Candidates in a sample.", min=2)] = 10,
    seed: Seed = None,
    device: Device = None,
    folder: Folder = RUNS,
    store: Store = None,
) -> None:
    """Fit a LoRA adapter to finished runs."""
    from lm_searcher.agent.cli.adapt_from_runs import adaptation_settings, training_data_of

    given: dict[str, Any] = {"base": base, "samples": samples, "candidates": candidates}
    given |= {"out": out, "seed": seed, "device": device}
    config = adaptation_settings(runs, given)
    data = training_data_of([files_of(run, folder, store) for run in runs], config)
    flags = words(given | {"folder": folder, "store": store})
    _fine_tune(config, ["train-ranker", "adapt", *runs, *flags], data)


def _fine_tune(
    config: LMTrainConfig, arguments: list[str], data: TrainingData | None = None
) -> None:
    from lm_searcher.agent.cli.training_view import TrainingView, lm_line, lm_news
    from lm_searcher.tools.rankers.lm.finetuning.train import finetune

    command, console = shlex.join(["lm-searcher", *arguments]), plain_console()
    with until_stopped(command) as stop, TrainingView(console, lm_line, lm_news) as view:
        finished = finetune(config, command, view, stop, data)
    check_finished(finished, command)
    console.print(
        f"wrote {config.product}: lm-searcher run ... --ranker lm:{config.product}",
        soft_wrap=True,
        highlight=False,
    )


@contextlib.contextmanager
def until_stopped(command: str) -> Iterator[Callable[[], bool]]:
    """Yields whether Ctrl-C was pressed; exits with code 130 after the second Ctrl-C."""
    from lm_searcher.agent.loop.signals import stop_on_ctrl_c

    try:
        with stop_on_ctrl_c("saving a checkpoint") as stop:
            yield stop
    except KeyboardInterrupt:
        check_finished(False, command)


def check_finished(finished: bool, command: str) -> None:
    """Exits with code 130 if a training was stopped; `command` goes on with it."""
    if not finished:
        print(f"stopped; go on from the last checkpoint with: {command}", file=sys.stderr)
        raise typer.Exit(130)
