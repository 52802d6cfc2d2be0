"""What is generated from the settings: the schema for editors, and the reference of run files."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from lm_searcher.agent.settings.reference import reference
from lm_searcher.agent.settings.run_file import RunFile, Settings
from lm_searcher.agent.settings.schema import run_file_schema
from lm_searcher.tools.evaluators.settings import EVALUATORS

ROOT = Path(__file__).parents[3]
SCHEMA = ROOT / "examples" / "lm-searcher.schema.json"
RUN_FILES = [
    path
    for path in sorted((ROOT / "examples").glob("*.toml"))
    if "evaluator" in tomllib.loads(path.read_text())
]
VALIDATOR = jsonschema.Draft202012Validator(run_file_schema())
LEAST: dict[str, Any] = {"space": {"name": "nb201"}, "evaluator": {"kind": "train"}}


def test_the_schema_in_the_repository_is_what_is_generated() -> None:
    assert json.loads(SCHEMA.read_text()) == run_file_schema(), "run `make reference`"
    jsonschema.Draft202012Validator.check_schema(run_file_schema())


def test_the_reference_in_the_repository_is_what_is_generated() -> None:
    written = (ROOT / "docs" / "reference" / "configuration.md").read_text()
    assert written == reference(), "run `make reference`"


@pytest.mark.parametrize("path", RUN_FILES, ids=lambda path: path.stem)
def test_the_examples_name_the_schema_and_keep_it(path: Path) -> None:
    first = path.read_text().splitlines()[0]
    assert first.startswith("#:schema ")
    assert (path.parent / first.removeprefix("#:schema ")).resolve() == SCHEMA
    VALIDATOR.validate(tomllib.loads(path.read_text()))


@pytest.mark.parametrize(
    "given",
    [
        {"ranker": {"pool": 3}},
        {"ranker": {"name": "tpe"}},
        {"ranker": {"name": "endpoint:m@http://x", "prompt": "ncode"}},
        {"ranker": {"name": "lm:there", "mode": "generate"}},
        {"executor": {"workers": 2}},
        {"executor": {"kind": "local", "seconds": 3.5}},
        {"space": {"name": "nb201", "channels": 8}},
        {"space": {"path": "mine.toml"}},
        {"evaluator": {"kind": "command", "command": ["a", "b"]}},
        {"objectives": [{"metric": "a", "direction": "max"}]},
    ],
)
def test_what_is_accepted_keeps_the_schema(given: dict[str, Any]) -> None:
    VALIDATOR.validate(LEAST | given)
    RunFile.model_validate(LEAST | given)


@pytest.mark.parametrize(
    "given",
    [
        {"ranker": {"nme": "tpe"}},
        {"ranker": {"name": "tpe", "weights": "x"}},
        {"ranker": {"name": "endpoint"}},
        {"executor": {"kind": "slurm"}},
        {"executor": {"workers": 0}},
        {"space": {"name": "nb201", "chanels": 8}},
        {"space": {"name": "nb202"}},
        {"evaluator": {"kind": "trian"}},
        {"evaluator": {"kind": "train", "epochs": 0}},
        {"evaluator": {"kind": "python"}},
        {"budget": {"trails": 3}},
        {"bugdet": {"trials": 3}},
    ],
)
def test_mistakes_break_the_schema(given: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(LEAST | given)


def test_the_reference_has_every_section_and_key() -> None:
    text = reference()
    for section, field in Settings.model_fields.items():
        assert f"`{section}`" in text or f"## [{section}]" in text
        for key in getattr(type(field.default), "model_fields", {}):
            assert f"| `{key}` |" in text, f"[{section}] {key}"
    for kind in EVALUATORS:
        assert f'kind = "{kind}"' in text
        for key in EVALUATORS[kind].model_fields:
            assert key == "kind" or f"| `{key}` |" in text
