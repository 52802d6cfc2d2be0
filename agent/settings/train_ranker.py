"""Files for `lm-searcher train-ranker incontext`: TOML or the name of a preset."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lm_searcher.agent.settings.toml import load_toml
from lm_searcher.spaces.errors import ConfigError, unknown
from lm_searcher.spaces.settings import SettingsModel
from lm_searcher.tools.rankers.incontext.pretraining.settings import (
    PRESETS,
    DataOptions,
    ModelOptions,
    OptimizerOptions,
    RunOptions,
    TrainConfig,
)


class InContextFile(SettingsModel):
    """A whole file for `train-ranker incontext`."""

    run: RunOptions = RunOptions()
    model: ModelOptions = ModelOptions()
    data: DataOptions = DataOptions()
    optimizer: OptimizerOptions = OptimizerOptions()

    def settings(self) -> TrainConfig:
        """The settings of all sections, as the training takes them."""
        return TrainConfig(**flat(self))


def flat(file: SettingsModel) -> dict[str, Any]:
    """The keys of all sections of a file."""
    return {key: value for _, section in file for key, value in section}


def load_incontext(
    config: str, overrides: Mapping[str, Mapping[str, Any]] = {}, presets: Path = PRESETS
) -> TrainConfig:
    """The settings of a TOML file or preset, with `overrides` on top. Raises ConfigError."""
    path = preset_or_file(config, presets)
    return load_toml(InContextFile, "training file", path, overrides).settings()


def preset_or_file(config: str, presets: Path) -> Path:
    """The file that `config` names: a preset of that folder, or a path. Raises ConfigError."""
    names = [path.stem for path in presets.glob("*.toml")]
    path = presets / f"{config}.toml" if config in names else Path(config)
    if config not in names and path.suffix != ".toml" and not path.exists():
        raise ConfigError(f"{unknown('preset', config, names)}, or the path of a TOML file")
    return path
