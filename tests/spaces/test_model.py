from __future__ import annotations

import inspect
from typing import Annotated

import pytest
from pydantic import ValidationError

from lm_searcher.spaces.builtin import BUILTIN
from lm_searcher.spaces.builtin_space import BuiltinSpace
from lm_searcher.spaces.errors import SpaceError
from lm_searcher.spaces.lora.space import lora
from lm_searcher.spaces.model import Accepted, Count, FrozenModel, check
from lm_searcher.spaces.nb201.space import NB201Settings, nb201


class Part(FrozenModel):
    size: Count
    note: str = ""


class Whole(FrozenModel):
    parts: Annotated[list[Part], Accepted("a list of parts")]
    named: Annotated[dict[str, Part], Accepted("a table of parts")] = {}  # noqa: RUF012
    count: Count = 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "parts is missing; accepted: a list of parts"),
        ({"parts": 3}, "parts = 3; accepted: a list of parts"),
        ({"parts": [3]}, "parts[0] = 3; accepted: a table with size"),
        ({"parts": [{"size": 1}, {}]}, "parts[1]: size is missing; accepted: integers from 1"),
        ({"parts": [{"size": 0}]}, "parts[0]: size = 0; accepted: integers from 1"),
        ({"parts": [], "named": {"a": {"size": "1"}}}, "named['a']: size = '1'; accepted"),
        ({"parts": [], "count": True}, "count = True; accepted: integers from 1"),
        ({"part": []}, "unknown key 'part'; did you mean 'parts'?"),
        ({"parts": [{"siz": 1}]}, "unknown key in parts[0] 'siz'; did you mean 'size'?"),
        ({"parts": [{"size": 1, "note": 3}]}, "parts[0]: note = 3; accepted: "),
        ([1], "[1] is no table; accepted: a table with parts"),
    ],
)
def test_an_error_names_the_place_the_value_and_what_is_accepted(
    given: object, message: str
) -> None:
    with pytest.raises(SpaceError) as error:
        check(Whole, given)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_model_is_frozen() -> None:
    settings = NB201Settings(channels=4)
    assert (settings.channels, settings.cells) == (4, 5)
    with pytest.raises(ValidationError):
        settings.cells = 1  # type: ignore[misc]


@pytest.mark.parametrize("name", sorted(BUILTIN))
def test_every_setting_of_a_space_is_declared_once_with_its_help(name: str) -> None:
    space = BUILTIN[name]
    assert isinstance(space, BuiltinSpace) and space.name == name
    fields = space.settings.model_fields
    assert all(field.description and not field.is_required() for field in fields.values())
    assert list(inspect.signature(space).parameters) == list(fields)
    schema = space.settings.model_json_schema()
    assert schema["properties"].keys() == fields.keys()
    assert schema["additionalProperties"] is False


def test_a_space_is_called_with_settings_by_place_or_by_name() -> None:
    assert nb201(4, cells=2).settings == nb201(channels=4, cells=2).settings
    with pytest.raises(ValueError):
        nb201(1, 2, 3)
    with pytest.raises(SpaceError, match="space 'nb201': unknown setting 'cels'"):
        nb201(cels=1)


def test_numbers_keep_their_type() -> None:
    """1 and 1.0 are different options: a space's identity has them as JSON."""
    space = lora(ranks=[4, 0], alphas=[8.5, 4])
    ranks, alphas = space.positions[0].choices, space.positions[-1].choices
    assert repr((ranks, alphas)) == "((0, 4), (4, 8.5))"
    assert repr(lora(alpha=16).settings["alpha"]) == "16"
