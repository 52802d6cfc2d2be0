"""Frozen pydantic models for settings and files, and their errors in one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from lm_searcher.spaces.errors import SpaceError, unknown


class FrozenModel(BaseModel):
    """A model without coercion and without unknown keys. A field's docstring is its help text."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True
    )


@dataclass(frozen=True)
class Accepted:
    """A description of the values that a field accepts, for its error messages."""

    text: str


Count = Annotated[int, Field(ge=1), Accepted("integers from 1")]
Flag = Annotated[bool, Accepted("true, false")]
Text = Annotated[str, Field(min_length=1), Accepted("text")]

AsTuple = BeforeValidator(lambda given: tuple(given) if isinstance(given, list | range) else given)
"""Converts a list or a range to a tuple; pydantic then rejects other types."""


def different(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """The values themselves; raises ValueError if two are equal. A pydantic validator."""
    if len(set(values)) < len(values):
        raise ValueError
    return values


_MESSAGE = "message"

Model = TypeVar("Model", bound=BaseModel)


def check(model: type[Model], given: Any, what: str = "key") -> Model:
    """The model of `given`. Raises SpaceError for the first error; `what` is the word for a key."""
    if not isinstance(given, Mapping):
        raise SpaceError(f"{given!r:.80} is no table; accepted: {_table(model)}")
    try:
        return model.model_validate(dict(given))
    except ValidationError as error:
        raise SpaceError(error_line(model, given, error, what)) from None


def message_error(text: str) -> PydanticCustomError:
    """An error for validators to raise whose message is `text`."""
    return PydanticCustomError(_MESSAGE, "{text}", {"text": text})


def setting_error(setting: str, value: object, accepted: str) -> PydanticCustomError:
    """An error for validators to raise about one value of a setting."""
    return message_error(_line(setting, value, accepted))


def error_line(
    model: type[BaseModel], given: Any, error: ValidationError, what: str = "key"
) -> str:
    """The first error: its place, the bad value, and what is accepted."""
    errors = error.errors(include_url=False)
    # A misspelt key also makes the correct key missing; report the misspelt one.
    first = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])
    if first["type"] == _MESSAGE:
        return first["msg"]
    place = ""
    loc: Sequence[int | str] = first["loc"]
    while True:
        name = str(loc[0])
        if name not in model.model_fields:
            where = f"{what} in {place}" if place else what
            return unknown(where, name, model.model_fields)
        field = model.model_fields[name]
        inner = _inner_model(field.annotation)
        if inner is None or len(loc) < 2:
            accepted = next((m.text for m in field.metadata if isinstance(m, Accepted)), None)
            accepted = accepted or first["msg"]
            prefix = f"{place}: " if place else ""
            if name not in given and field.is_required():
                return f"{prefix}{name} is missing; accepted: {accepted}"
            return prefix + _line(name, given.get(name, field.default), accepted)
        place, given = f"{name}[{loc[1]!r}]", given[name][loc[1]]
        if len(loc) == 2:
            return _line(place, given, _table(inner))
        model, loc = inner, loc[2:]


def _line(setting: str, value: object, accepted: str) -> str:
    return f"{setting} = {value!r}; accepted: {accepted}"


def _table(model: type[BaseModel]) -> str:
    """A description of what a model accepts."""
    names = [name for name, field in model.model_fields.items() if field.is_required()]
    return f"a table with {', '.join(names)}" if names else "a table"


def _inner_model(annotation: Any) -> type[BaseModel] | None:
    """The model of the elements of a list or dictionary; None for other types."""
    for argument in get_args(annotation):
        if isinstance(argument, type) and issubclass(argument, BaseModel):
            return argument
    return None
