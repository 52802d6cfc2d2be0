"""The samples that a model is trained on, and the held-out samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from lm_searcher.spaces.table_files import load_table
from lm_searcher.tools.rankers.lm.finetuning.samples import Sample, Samples, held_out
from lm_searcher.tools.rankers.lm.finetuning.settings import LMTrainConfig, TableChoice
from lm_searcher.tools.rankers.lm.finetuning.subspace_samples import (
    Landscapes,
    SubspaceSource,
    TableRows,
)


class SampleStream(Protocol):
    """An endless sequence of samples."""

    def __getitem__(self, index: int) -> Sample:
        """Sample `index`; the same at each call."""
        ...


@dataclass(frozen=True)
class TrainingData:
    """Samples for training and for validation."""

    samples: SampleStream
    held_out: Sequence[Sample]
    description: str
    """The origin of the samples in words, for the model card."""


def training_data_of(config: LMTrainConfig) -> TrainingData:
    """The data that the settings describe; no subspace is both in training and held out.

    Raises TableError for a table that is missing, damaged or without its card, TrainingError
    for a table without a subspace of the wanted size.
    """
    sources: list[SubspaceSource] = [_rows(table) for table in config.tables]
    shares = [(1 - config.landscapes) / len(sources)] * len(sources) if sources else []
    names = [f"{table.path} ({table.metric})" for table in config.tables]
    if config.landscapes > 0 or not sources:
        sources.append(Landscapes())
        shares.append(1 - sum(shares))
        names.append("synthetic landscapes")
    ramp = round(config.ramp * config.samples)
    samples = Samples(sources, shares, config.shape, config.seed, ramp=ramp)
    validation = held_out(samples, config.held_out)
    samples = replace(samples, refused=frozenset(sample.key for sample in validation))
    return TrainingData(samples, validation, f"pruned subspaces of {', '.join(names)}")


def _rows(choice: TableChoice) -> TableRows:
    table = load_table(choice.path, metric=choice.metric)
    direction = choice.direction or table.directions.get(choice.metric, "max")
    return TableRows(table, choice.metric, 1.0 if direction == "max" else -1.0)
