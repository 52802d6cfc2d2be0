"""The JSON schema of run files, for editors that complete and check them.

It covers the components of installed packages, too. A component that cannot be loaded is left out.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from pydantic.json_schema import models_json_schema

from lm_searcher.agent.settings.run_file import RunFile
from lm_searcher.spaces.builtin import BUILTIN
from lm_searcher.spaces.errors import UserError
from lm_searcher.spaces.registry import Registry
from lm_searcher.spaces.settings import SettingsModel
from lm_searcher.tools.evaluators.settings import EVALUATORS
from lm_searcher.tools.executors.settings import EXECUTORS, ExecutorSettings
from lm_searcher.tools.rankers.settings import MODELS, RANKERS, RankerSettings

Schema = dict[str, Any]
T = TypeVar("T")


def run_file_schema() -> Schema:
    """The JSON schema (draft 2020-12) of a run file."""
    kinds = [*evaluators(), *executors(), *rankers()]
    models = {model for _, model, _ in kinds}
    _, document = models_json_schema(
        [(RunFile, "validation"), *((model, "validation") for model in sorted_by_name(models))]
    )
    definitions: Schema = {name: tidy(value) for name, value in document["$defs"].items()}
    root = definitions.pop("RunFile")
    for section, found in (
        ("evaluator", evaluators()),
        ("executor", executors()),
        ("ranker", rankers()),
    ):
        choices = []
        for name, model, discriminator in found:
            definitions[name] = _kind(definitions[model.__name__], discriminator)
            choices.append({"$ref": f"#/$defs/{name}"})
        root["properties"][section] = {"oneOf": choices}
    definitions["SpaceSettings"] |= _spaces(definitions["SpaceSettings"])
    used = _references(root, definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "lm-searcher run file",
        **root,
        "$defs": {name: definitions[name] for name in sorted(used)},
    }


Kind = tuple[str, type[SettingsModel], Schema]
"""A name for the definition, the settings, and the key that tells them apart from others."""


def evaluators() -> Iterator[Kind]:
    """The kinds of [evaluator]."""
    for name, model in available(EVALUATORS):
        yield f"evaluator-{name}", model, {"kind": {"const": name}, "required": ["kind"]}


def executors() -> Iterator[Kind]:
    """The kinds of [executor]; `kind` may be left out for those on this machine."""
    found = list(available(EXECUTORS))
    plain = [name for name, model in found if model is ExecutorSettings]
    yield "executor", ExecutorSettings, {"kind": {"enum": plain}, "required": []}
    for name, model in found:
        if model is not ExecutorSettings:
            yield f"executor-{name}", model, {"kind": {"const": name}, "required": ["kind"]}


def rankers() -> Iterator[Kind]:
    """The kinds of [ranker]; `name` may be left out for the default ranker."""
    default = RankerSettings.model_fields["name"].default
    plain = []
    for name, entry in available(RANKERS):
        if isinstance(entry, type) and issubclass(entry, RankerSettings):
            required = [] if name == default else ["name"]
            yield f"ranker-{name}", entry, {"name": {"const": name}, "required": required}
        else:
            plain.append(name)
    yield "ranker", RankerSettings, {"name": {"enum": plain}, "required": ["name"]}
    for prefix, model in available(MODELS):
        pattern = {"pattern": f"^{prefix}:.+", "type": "string"}
        yield f"ranker-{prefix}", model, {"name": pattern, "required": ["name"]}


def available(registry: Registry[T]) -> Iterator[tuple[str, T]]:
    """The components of a registry that can be loaded."""
    for name in registry:
        try:
            yield name, registry[name]
        except UserError:
            if name in registry.builtin:
                raise


def tidy(schema: Schema) -> Schema:
    """A schema without titles, without the alternative null (TOML has none), and with the help
    text of a key where editors look for it."""
    if "anyOf" in schema:
        choices = [tidy(choice) for choice in schema["anyOf"] if choice.get("type") != "null"]
        rest = {k: v for k, v in schema.items() if k not in ("anyOf", "title")}
        schema = {**(choices[0] if len(choices) == 1 else {"anyOf": choices}), **rest}
    found = {k: v for k, v in schema.items() if k != "title" and not _no_value(k, v)}
    if "properties" in found:
        found["properties"] = {key: tidy(value) for key, value in found["properties"].items()}
    if isinstance(found.get("description"), str):
        found["description"] = " ".join(found["description"].split())
    return found


def _no_value(key: str, value: Any) -> bool:
    return key == "default" and (value is None or isinstance(value, dict))


def sorted_by_name(models: set[type[SettingsModel]]) -> list[type[SettingsModel]]:
    """Models in the order of their names."""
    return sorted(models, key=lambda model: model.__name__)


def _kind(definition: Schema, discriminator: Schema) -> Schema:
    """A definition in which one key has the values of this kind only."""
    keys = {key: value for key, value in discriminator.items() if key != "required"}
    properties = dict(definition["properties"])
    for key, accepted in keys.items():
        kept = {k: properties[key][k] for k in ("description",) if k in properties[key]}
        properties[key] = {**kept, **accepted}
    others = [name for name in definition.get("required", []) if name not in keys]
    return {**definition, "properties": properties, "required": discriminator["required"] + others}


def _spaces(definition: Schema) -> Schema:
    """The keys of each built-in space."""
    found, rules = dict(available(BUILTIN)), []
    for name, make in found.items():
        keys = ["name", "path", *inspect.signature(make).parameters]
        rules.append(
            {
                "if": {"properties": {"name": {"const": name}}, "required": ["name"]},
                "then": {"propertyNames": {"enum": keys}},
            }
        )
    names = {**definition["properties"]["name"], "enum": list(found)}
    return {"properties": {**definition["properties"], "name": names}, "allOf": rules}


def _references(schema: Any, definitions: Mapping[str, Schema]) -> set[str]:
    """The definitions that a schema needs, directly or through others."""
    if isinstance(schema, list):
        return set().union(*(_references(entry, definitions) for entry in schema))
    if not isinstance(schema, dict):
        return set()
    found = set().union(*(_references(entry, definitions) for entry in schema.values()))
    if isinstance(reference := schema.get("$ref"), str):
        name = reference.removeprefix("#/$defs/")
        found |= {name} | _references(definitions[name], definitions)
    return found
