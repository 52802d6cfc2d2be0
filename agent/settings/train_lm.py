"""Files for `lm-searcher train-ranker lm`: TOML or the name of a preset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lm_searcher.agent.settings.toml import load_toml
from lm_searcher.agent.settings.train_ranker import flat, preset_or_file
from lm_searcher.spaces.settings import SettingsModel
from lm_searcher.tools.rankers.lm.finetuning.settings import (
    PRESETS,
    LMDataOptions,
    LMModelOptions,
    LMOptimizerOptions,
    LMRunOptions,
    LMTrainConfig,
)


class LMFile(SettingsModel):
    """A whole file for `train-ranker lm`."""

    run: LMRunOptions = LMRunOptions()
    model: LMModelOptions
    data: LMDataOptions = LMDataOptions()
    optimizer: LMOptimizerOptions = LMOptimizerOptions()

    def settings(self) -> LMTrainConfig:
        """The settings of all sections, as the training takes them."""
        return LMTrainConfig(**flat(self))


def load_lm(config: str, overrides: Mapping[str, Mapping[str, Any]] = {}) -> LMTrainConfig:
    """The settings of a TOML file or preset, with `overrides` on top. Raises ConfigError."""
    path = preset_or_file(config, PRESETS)
    return load_toml(LMFile, "training file", path, overrides).settings()
