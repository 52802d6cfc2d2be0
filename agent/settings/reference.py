"""The reference of run files: a table of keys for each section, in Markdown."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from lm_searcher.agent.settings.run_file import RunFile, Settings
from lm_searcher.agent.settings.schema import (
    Schema,
    available,
    evaluators,
    rankers,
    tidy,
)
from lm_searcher.spaces.builtin import BUILTIN
from lm_searcher.spaces.builtin_space import BuiltinSpace
from lm_searcher.spaces.settings import SettingsModel
from lm_searcher.tools.rankers.settings import RankerSettings

HEAD = """\
# Run files

<!-- Written by `make reference`. Do not edit: change the settings in the code. -->

A run file is TOML. Defaults < file < command-line flags. Paths are relative to the working
directory. An unknown key is refused, with the nearest known one. `lm-searcher schema` prints a JSON
schema: with a first line `#:schema lm-searcher.schema.json`, editors complete and check run files.
"""


def reference() -> str:
    """All sections and keys of a run file."""
    return HEAD + "".join(_sections())


def _sections() -> Iterator[str]:
    yield "\n## At the top of the file\n\n"
    yield from _table(RunFile, ["objectives", "constraints"])
    yield from _space()
    yield "\n## [evaluator]\n"
    for _, model, key in evaluators():
        yield f'\n### kind = "{key["kind"]["const"]}"\n\n{_text(model)}\n\n'
        yield from _table(model, [name for name in model.model_fields if name != "kind"])
    for section, field in Settings.model_fields.items():
        if isinstance(field.default, RankerSettings):
            yield from _ranker()
        elif isinstance(field.default, SettingsModel):
            model = type(field.default)
            yield f"\n## [{section}]\n\n{_text(model)}\n\n"
            yield from _table(model, list(model.model_fields))


def _space() -> Iterator[str]:
    model = type(RunFile.model_fields["space"].default)
    yield f"\n## [space]\n\n{_text(model)}\n\n"
    yield from _table(model, ["name", "path"])
    for name, make in sorted(available(BUILTIN)):
        yield f'\n### name = "{name}"\n\n'
        if isinstance(make, BuiltinSpace):
            yield from _table(make.settings, list(make.settings.model_fields))
            continue
        yield "| key | default |\n|---|---|\n"
        for parameter in inspect.signature(make).parameters.values():
            yield f"| `{parameter.name}` | {_value(parameter.default)} |\n"


def _ranker() -> Iterator[str]:
    found = list(rankers())
    plain = next(key["name"]["enum"] for _, _, key in found if "enum" in key["name"])
    forms = [model.FORM for _, model, _ in found if issubclass(model, RankerSettings)]
    named = [key["name"]["const"] for _, _, key in found if "const" in key["name"]]
    names = ", ".join(f"`{name}`" for name in [*named, *plain, *filter(None, forms)])
    yield f"\n## [ranker]\n\n{_text(RankerSettings)}\n\nRankers: {names}.\n\n"
    yield from _table(RankerSettings, list(RankerSettings.model_fields))
    for _, model, key in found:
        own = [name for name in model.model_fields if name not in RankerSettings.model_fields]
        if own and issubclass(model, RankerSettings):
            yield f'\n### name = "{model.FORM or key["name"]["const"]}"\n\n'
            yield from _table(model, own)


def _text(model: type[SettingsModel]) -> str:
    """What a section is for: its docstring's first sentence, without the section's name."""
    first = (inspect.getdoc(model) or "").partition("\n\n")[0]
    text = " ".join(first.split()).partition(": ")[2]
    return text[:1].upper() + text[1:]


def _table(model: type[BaseModel], keys: list[str]) -> Iterator[str]:
    schema = model.model_json_schema()
    required = schema.get("required", [])
    yield "| key | accepted | default | meaning |\n|---|---|---|---|\n"
    for key in sorted(keys, key=lambda key: key not in required):
        entry = tidy(schema["properties"][key])
        default = "required" if key in required else _value(entry.get("default"))
        text = entry.get("description", "")
        yield f"| `{key}` | {_accepted(entry, schema)} | {default} | {text} |\n"


def _value(value: Any) -> str:
    if value is None or value is inspect.Parameter.empty:
        return ""
    return f"`{json.dumps(value)}`"


def _accepted(entry: Schema, schema: Schema) -> str:
    """The accepted values of a key in words."""
    if "$ref" in entry:
        return "table"
    if "enum" in entry:
        return ", ".join(f"`{value}`" for value in entry["enum"])
    if "anyOf" in entry:
        return " or ".join(_accepted(choice, schema) for choice in entry["anyOf"])
    if entry.get("format") == "path":
        return "path"
    if entry.get("type") == "array":
        return f"list of {_accepted(entry.get('items', {}), schema)}"
    names = {"string": "text", "boolean": "true, false", "integer": "integer", "number": "number"}
    words = names.get(entry.get("type", ""), "value")
    bounds = (
        ("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"),
    )  # fmt: skip
    found = [f"{sign} {entry[name]:g}" for name, sign in bounds if name in entry]
    return " ".join([words, ", ".join(found)]).strip()
