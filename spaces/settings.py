"""The base of every settings class: frozen, checked, and described where it is declared.

A component declares its settings once, as a `SettingsModel` beside it: the name, the type with its
bounds, the default, and a docstring under the field as help text. Run files, the keywords of the
Python API, command-line help, tool schemas, the reference and the JSON schema are made from that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from lm_searcher.spaces.errors import ConfigError, unknown

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
"""The names of runs, and of what users define."""

Count = Annotated[int, Field(ge=1, strict=True)]
CountOrZero = Annotated[int, Field(ge=0, strict=True)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]
Finite = Annotated[float, Field(allow_inf_nan=False, strict=True)]
Share = Annotated[float, Field(gt=0, le=1, strict=True)]
BelowOne = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False, strict=True)]
Fraction = Annotated[float, Field(ge=0, le=1, strict=True)]
Seed = Annotated[int, Field(ge=0, lt=2**31, strict=True)]

UNKNOWN_KEY, NOT_A_CHOICE = "unknown_key", "not_a_choice"
"""Types of our own validation errors."""


class SettingsModel(BaseModel):
    """A group of settings. A bad value raises ConfigError, an unknown key as well."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    ROLE: ClassVar[str] = ""
    """How messages name these settings; default: the name of the class."""

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            where = type(self).ROLE or type(self).__name__
            raise ConfigError(f"{where}: {first_line(error, sections=False)}") from None

    # Nested settings are validated in place, so that errors name their section.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, given: Any) -> Any:
        """Refuse unknown keys. A key with the value None counts as left out, so that stored
        settings with keys of other versions can be read."""
        if not isinstance(given, Mapping) or cls.model_config.get("extra") != "forbid":
            return given
        unknown_keys = [key for key in given if key not in cls.model_fields]
        for key in unknown_keys:
            if given[key] is not None:
                context = {"message": unknown_in("{place}", key, cls.model_fields)}
                raise PydanticCustomError(UNKNOWN_KEY, "{message}", context)
        return {key: value for key, value in given.items() if key in cls.model_fields}

    def changed(self, **changes: Any) -> Self:
        """A copy with other values, checked. Raises ConfigError."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self)(**values | changes)


def unknown_in(place: str, key: object, accepted: Mapping[str, Any]) -> str:
    """One line for an unknown key; `place` stands for its section."""
    return unknown(f"key{place}", str(key), accepted)


Model = TypeVar("Model", bound=BaseModel)


def checked(model: type[Model], document: Any, where: str) -> Model:
    """The validated model; raises ConfigError in one line that begins with `where`."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise ConfigError(f"{where}: {first_line(error)}") from None


def first_line(error: ValidationError, sections: bool = True) -> str:
    """The first mistake in one line: key, value, and what is accepted.

    `sections`: the outermost names are sections of a file, and are written in brackets.
    """
    errors = error.errors()
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return f"{_line(errors[0], sections)}{more}"


def _line(error: ErrorDetails, sections: bool) -> str:
    place = _place(error["loc"])
    key = f"[{place[0]}] {'.'.join(place[1:])}".strip() if place and sections else ".".join(place)
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == UNKNOWN_KEY:
        return message.replace("{place}", f" in [{'.'.join(place)}]" if place else "", 1)
    if error["type"] == "missing":
        return f"{key} is missing"
    if error["type"] in ("value_error", NOT_A_CHOICE):
        return f"{key}: {message}" if key and not message.startswith("[") else message
    return f"{key} = {error['input']!r}: {message[0].lower()}{message[1:]}"


def _place(loc: tuple[int | str, ...]) -> list[str]:
    """Section and key, without pydantic's names for the members of a union."""
    parts = [str(part) for part in loc]
    if parts[:1] == ["objectives"]:
        return [".".join(parts[:2]), *parts[2:]]
    return parts[:2] + [part for part in parts[2:] if part.isdigit()]
