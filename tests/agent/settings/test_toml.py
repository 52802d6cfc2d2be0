from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_searcher.agent.settings.toml import dumps, write_text
from lm_searcher.spaces.errors import ConfigError

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
PLAIN = st.one_of(
    TEXT, st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, width=32)
).filter(lambda value: value not in (float("inf"), float("-inf")))
TABLE = st.dictionaries(TEXT, st.one_of(PLAIN, st.lists(PLAIN, max_size=3)), max_size=4)
DOCUMENT = st.dictionaries(
    TEXT, st.one_of(PLAIN, TABLE, st.lists(TABLE, min_size=1, max_size=3)), max_size=4
)


@pytest.mark.slow
@given(DOCUMENT)
def test_what_is_written_reads_back(document: dict[str, Any]) -> None:
    assert tomllib.loads(dumps(document)) == document


def test_none_is_left_out() -> None:
    assert dumps({"a": None, "b": {"c": None, "d": Path("x")}}) == '[b]\nd = "x"\n'


def test_half_a_character_is_refused() -> None:
    with pytest.raises(ConfigError, match="d83d"):
        dumps({"name": "\ud83d"})


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.toml"
    write_text(path, "a = 1\n")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "\ud83d")
    assert path.read_text() == "a = 1\n"
    assert [p.name for p in path.parent.iterdir()] == ["a.toml"]
    with pytest.raises(ConfigError, match=r"'b\.toml' cannot be written"):
        write_text(path / "b.toml", "")
