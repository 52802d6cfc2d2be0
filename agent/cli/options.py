"""What the commands have in common. Options that set a setting take its help from the settings."""

from __future__ import annotations

import json
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer
from typer.core import TyperCommand

if TYPE_CHECKING:
    from rich.console import Console

    from lm_searcher.agent.study.paths import RunFiles
    from lm_searcher.spaces.settings import SettingsModel

Json = Annotated[bool, typer.Option("--json", help="Print machine-readable results.")]
Store = Annotated[
    str | None, typer.Option(help="Database URL; default: SQLite in the run's folder.")
]
Folder = Annotated[Path, typer.Option(help="Where runs are kept.")]
RUNS = Path("runs")


def setting(key: str) -> Any:
    """An option that sets the setting `key`, as in "budget.trials"; see SettingsCommand."""
    return typer.Option(help=f"[{key}]")


class SettingsCommand(TyperCommand):
    """A command whose options set settings: their help is that of the settings.

    It is looked up when help is asked for, since the settings take half a second to import.
    """

    MODEL: ClassVar[str]
    """The file's settings, as "module:class"."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help, that of the settings included."""
        model = pkgutil.resolve_name(self.MODEL)
        for parameter in self.params:
            text = getattr(parameter, "help", None) or ""
            if text.startswith("[") and text.endswith("]") and "." in text:
                parameter.help = help_of(model, text[1:-1])  # type: ignore[attr-defined]
        super().format_help(ctx, formatter)


def help_of(model: type[SettingsModel], key: str) -> str:
    """The help of a setting in a file, as in "budget.trials"."""
    section, _, name = key.partition(".")
    field = model.model_fields[section]
    nested = field.annotation if field.default_factory or field.is_required() else None
    group: Any = nested or type(field.default)
    return " ".join((group.model_fields[name].description or "").split())


def overrides(flags: Mapping[str, str], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of flags as {section: {key: value}}. `flags` has each flag's "section.key"; None
    is a flag that was not given."""
    given: dict[str, Any] = {}
    for flag, key in flags.items():
        if values[flag] is not None:
            section, _, name = key.partition(".")
            given.setdefault(section, {})[name] = values[flag]
    return given


def words(values: Mapping[str, Any]) -> list[str]:
    """Flags and their values as words of a command line; None is a flag that was not given."""
    given = ((f"--{flag.replace('_', '-')}", value) for flag, value in values.items())
    return [word for flag, value in given if value is not None for word in (flag, str(value))]


def files_of(name: str, folder: Path, store: str | None) -> RunFiles:
    """The files of the run of that name. Raises ConfigError for a name that no run can have."""
    from lm_searcher.agent.settings.run_file import RunSettings
    from lm_searcher.agent.study.paths import RunFiles
    from lm_searcher.spaces.settings import checked

    section = checked(RunSettings, {"name": name, "folder": folder}, "run")
    return RunFiles.of(section.name or name, section.folder, store)


def plain_console(**options: Any) -> Console:
    """A console that prints names as they are: brackets are no markup, colons make no emoji."""
    from rich.console import Console

    return Console(markup=False, emoji=False, **options)


def print_json(document: Any) -> None:
    """Print one JSON document on standard output, without NaN and infinity."""
    print(json.dumps(document, indent=1, allow_nan=False))
