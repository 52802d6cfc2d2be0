"""Tables as CSV files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lm_searcher.spaces.errors import TableError
from lm_searcher.spaces.ncode import to_ncodes
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.spaces.table_files import load_table


def refused(path: Path, metric: str = "acc", **options: Any) -> str:
    with pytest.raises(TableError) as refusal:
        load_table(path, metric=metric, **options)
    message = str(refusal.value)
    assert path.stem in message and "\n" not in message
    return message


CSV = "width,act,acc,note,ms\n64,relu,50,a,1\n16,gelu,20,b,2\n16,relu,10,c,3\n"


def csv(folder: Path, text: str = CSV) -> Path:
    path = folder / "tiny.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_csv_file(tmp_path: Path) -> None:
    table = load_table(csv(tmp_path), metric="acc")
    assert table.space.name == "tiny"
    assert [(p.name, p.choices) for p in table.space.positions] == [
        ("width", (16, 64)),
        ("act", ("gelu", "relu")),
    ]
    assert to_ncodes(table.codes) == ["11", "00", "01"]
    assert table.column("acc").tolist() == [50, 20, 10]
    assert table.metrics.keys() == {"acc", "ms"}, "text is no metric"
    assert not table.complete and table.directions == {}


def test_a_csv_with_named_positions(tmp_path: Path) -> None:
    table = load_table(csv(tmp_path), metric="ms", positions=["act"])
    assert [p.name for p in table.space.positions] == ["act"]
    assert table.rows[bytes([1])] == [0, 2], "two rows of one architecture"


def test_a_csv_of_a_space_keeps_the_spaces_order(tmp_path: Path) -> None:
    space = SearchSpace.of("mine", {"act": ["relu", "gelu"], "width": [64, 32, 16]})
    table = load_table(csv(tmp_path), metric="acc", space=space)
    assert to_ncodes(table.codes) == ["00", "12", "02"]


def test_a_csv_of_switches(tmp_path: Path) -> None:
    space = SearchSpace.of("mine", {"bias": [False, True]})
    for text in (
        "bias,acc\nTrue,1\nFalse,2\n",
        "bias,acc\ntrue,1\nfalse,2\n",
        "bias,acc\n1,1\n0,2\n",
    ):
        table = load_table(csv(tmp_path, text), metric="acc", space=space)
        assert to_ncodes(table.codes) == ["1", "0"]


def test_a_spreadsheets_csv(tmp_path: Path) -> None:
    path = tmp_path / "tiny.csv"
    path.write_bytes(b'\xef\xbb\xbfwidth,acc\r\n" 16 ",1\r\n\r\n32,\r\n')  # mark, CRLF, gaps
    table = load_table(path, metric="acc")
    assert table.space.positions[0].choices == (16, 32)
    assert np.array_equal(table.column("acc"), [1, np.nan], equal_nan=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty or no text"),
        ("width,acc\n", "has a header and no rows"),
        ("width,acx\n16,1\n", "unknown metric 'acc'; did you mean 'acx'?"),
        ("width,acc\n16,1\n32\n", "line 3: 1 fields, the header has 2"),
        ("width,acc\n16,1\n32,2,3\n", "line 3: 3 fields"),
        ("width,acc\n16,high\n", "column 'acc' is not all numbers"),
        ("acc,width\n1,16\n", "no positions"),
        ("width,width,acc\n16,32,1\n", "two columns are named 'width'"),
        ("width,acc\n" + "".join(f"{i},1\n" for i in range(37)), "37 choices, at most 36"),
        ("width,acc\n16\0,1\n" + '"' + "x" * 200_000, "tiny.csv"),
    ],
)
def test_a_csv_that_makes_no_sense(tmp_path: Path, text: str, message: str) -> None:
    assert message in refused(csv(tmp_path, text))


def test_a_csv_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "tiny.csv").write_bytes(bytes(range(256)))
    assert "is empty or no text" in refused(tmp_path / "tiny.csv")


def test_a_csv_that_is_of_another_space(tmp_path: Path) -> None:
    space = SearchSpace.of("mine", {"width": [16, 32], "act": ["relu", "gelu"]})
    assert "line 2: '64' is no option of 'width' (accepted: 16, 32)" in refused(
        csv(tmp_path), space=space
    )
    other = SearchSpace.of("mine", {"widht": [16, 64]})
    assert "unknown position column 'widht'; did you mean 'width'?" in refused(
        csv(tmp_path), space=other
    )
    assert "unknown position column 'depth'" in refused(csv(tmp_path), positions=["depth"])
