from __future__ import annotations

from pathlib import Path

import pytest

from lm_searcher.spaces.errors import SpaceError
from lm_searcher.spaces.space import Position
from lm_searcher.spaces.space_file import load_space

WHOLE = """
name = "mlp"
builder = "my_models:mlp"
settings = { dropout = 0.1 }

[[positions]]
name = "width"
choices = [32, 64, 128]

[[positions]]
name = "activation"
choices = ["relu", "gelu"]
ordered = true

[[positions]]
name = "bias"
choices = [true, false]
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "own.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_whole_file(tmp_path: Path) -> None:
    space = load_space(written(tmp_path, WHOLE))
    assert space.name == "mlp" and space.size == 12
    assert space.builder == "my_models:mlp" and space.settings == {"dropout": 0.1}
    assert space.positions == (
        Position("width", (32, 64, 128), True),
        Position("activation", ("relu", "gelu"), True),
        Position("bias", (True, False), False),
    )


def test_the_least_file_is_named_for_itself(tmp_path: Path) -> None:
    space = load_space(written(tmp_path, '[[positions]]\nname = "a"\nchoices = ["x"]\n'))
    assert space.name == "own" and space.size == 1
    assert space.builder is None and space.settings == {}


A = '[[positions]]\nname = "a"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "positions is missing; accepted: one or more [[positions]], each with name"),
        ("positions = []", "positions = []; accepted: one or more [[positions]]"),
        ('positions = "a"', "positions = 'a'; accepted: one or more [[positions]]"),
        ("positions = [3]", "positions[0] = 3; accepted: a table with name, choices"),
        ("[[positions]\n", "is no valid TOML"),
        (A, "positions[0]: choices is missing; accepted: a list of options"),
        (A + 'choices = "abc"', "choices = 'abc'; accepted: a list"),
        ("[[positions]]\nchoices = [1]", "positions[0]: name is missing; accepted: text"),
        ("[[positions]]\nname = 3\nchoices = [1]", "name = 3; accepted: text"),
        ('[[positions]]\nname = ""\nchoices = [1]', "empty name"),
        (A + "choices = []", "position 'a': choices is empty"),
        (A + "choices = [1, 2, 1]", "position 'a': duplicate choices (1)"),
        (A + "choices = [1, [2]]", "[2] is no option"),
        (A + "choices = [2026-01-01]", "is no option; accepted: text, finite numbers"),
        (A + "choices = [nan]", "nan is no option"),
        (A + f"choices = {list(range(37))}", "37 choices, at most 36"),
        (A + 'choices = [1]\nordered = "yes"', "ordered = 'yes'; accepted: true, false"),
        (A + "choises = [1]", "unknown key in positions[0] 'choises'; did you mean 'choices'?"),
        ("nme = 'x'\n" + A + "choices = [1]", "unknown key 'nme'; did you mean 'name'?"),
        ("name = 7\n" + A + "choices = [1]", "name = 7; accepted: text"),
        ("builder = 'f'\n" + A + "choices = [1]", "builder = 'f'; accepted: \"module:function\""),
        ("settings = 1\n" + A + "choices = [1]", "settings = 1; accepted: a table"),
        (A + "choices = [1]\n" + A + "choices = [1]", "two positions are named 'a'"),
    ],
)
def test_each_mistake_is_one_line_that_names_the_file(
    tmp_path: Path, text: str, message: str
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(SpaceError) as refusal:
        load_space(path)
    assert str(refusal.value).startswith(f"space file '{path}'")
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match=r"nowhere\.toml': No such file"):
        load_space(tmp_path / "nowhere.toml")
    with pytest.raises(SpaceError, match="Is a directory"):
        load_space(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b'name = "\xff"')
    with pytest.raises(SpaceError, match="is no valid TOML"):
        load_space(tmp_path / "latin.toml")
