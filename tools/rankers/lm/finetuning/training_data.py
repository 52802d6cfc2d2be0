"""What a model is trained on, and what it is judged by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from lm_searcher.spaces.table_files import load_table
from lm_searcher.tools.rankers.lm.finetuning.samples import Sample, Samples, held_out
from lm_searcher.tools.rankers.lm.finetuning.settings import LMTrainConfig, TableChoice
from lm_searcher.tools.rankers.lm.finetuning.subspace_samples import Landscapes, Source, TableRows


class Stream(Protocol):
    """An endless list of samples."""

    def __getitem__(self, index: int) -> Sample:
        """Sample `index`, the same each time."""
        ...


@dataclass(frozen=True)
class Lessons:
    """Samples to train on, others to judge by, and what they are, in words."""

    samples: Stream
    held_out: Sequence[Sample]
    what: str


def lessons_of(config: LMTrainConfig) -> Lessons:
    """What the settings describe; subspaces of the held-out samples are refused in training.

    Raises TableError for a table that is missing, damaged or without its card, TrainingError
    for one that has no subspace of the size wanted.
    """
    sources: list[Source] = [_rows(table) for table in config.tables]
    shares = [(1 - config.landscapes) / len(sources)] * len(sources) if sources else []
    named = [f"{table.path} ({table.metric})" for table in config.tables]
    if config.landscapes > 0 or not sources:
        sources.append(Landscapes())
        shares.append(1 - sum(shares))
        named.append("synthetic landscapes")
    ramp = round(config.ramp * config.samples)
    samples = Samples(sources, shares, config.shape, config.seed, ramp=ramp)
    kept_back = held_out(samples, config.held_out)
    samples = replace(samples, refused=frozenset(sample.key for sample in kept_back))
    return Lessons(samples, kept_back, f"pruned subspaces of {', '.join(named)}")


def _rows(choice: TableChoice) -> TableRows:
    table = load_table(choice.path, metric=choice.metric)
    direction = choice.direction or table.directions.get(choice.metric, "max")
    return TableRows(table, choice.metric, 1.0 if direction == "max" else -1.0)
