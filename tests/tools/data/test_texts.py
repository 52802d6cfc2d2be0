from __future__ import annotations

import os
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import numpy as np
import pytest

from lm_searcher.spaces.errors import DatasetError
from lm_searcher.tools.data.datasets import load_dataset
from lm_searcher.tools.data.texts import Text, distinct, load_text, split


def test_the_documentation_of_python_is_split_by_topic() -> None:
    text = load_text("pydoc", None, context=64)
    parts = [part.tobytes().decode() for part in (text.train, text.valid, text.test)]
    assert sum(map(len, parts)) > 200_000
    for part in (text.valid, text.test):
        assert 0.08 < len(part) / (len(text.train) * 1.25) < 0.13
    for topic in distinct(topics):  # whole in one of them
        assert any(topic in part for part in parts)
    train, valid, test = ({p.strip() for p in part.split("\n\n")} - {""} for part in parts)
    assert not train & valid and not train & test and not valid & test
    again = load_text("pydoc", None, context=64)
    assert again.digest == text.digest
    assert np.array_equal(again.test, text.test)


def test_a_passage_of_a_longer_topic_is_left_out() -> None:
    topics = {"if": "If\n\nA passage.", "all": "All\n\nA passage.\n\nAnother.", "in": "In"}
    assert distinct(topics) == ["All\n\nA passage.\n\nAnother.", "If", "In"]


def test_whole_documents_are_dealt_where_they_fit() -> None:
    documents = [bytes([65 + i]) * 10 for i in range(20)]
    train, valid, test = (part.tobytes().split(b"\n\n") for part in split([*documents, b""]))
    assert (len(train), len(valid), len(test)) == (16, 2, 2)
    assert sorted([*train, *valid, *test]) == documents


@pytest.mark.parametrize("documents", [[b"0123456789" * 10], [b"0123456789" * 9, b"x" * 10]])
def test_one_long_document_is_cut_in_order(documents: list[bytes]) -> None:
    train, valid, test = (part.tobytes() for part in split(documents))
    assert train + valid + test == b"".join(documents)
    assert (len(train), len(valid), len(test)) == (80, 10, 10)


def test_a_file_and_a_folder_of_the_users(tmp_path: Path) -> None:
    # Bytes of any encoding, or of none.
    whole = bytes(range(256)) * 10
    (tmp_path / "sub").mkdir()
    (tmp_path / "b.txt").write_bytes(whole[1000:])
    (tmp_path / "sub" / "c.txt").write_bytes(b"")
    (tmp_path / "a.txt").write_bytes(whole[:1000])
    (tmp_path / "a.md").write_bytes(b"not this")
    (tmp_path / "whole").write_bytes(whole)
    folder = load_text("text", tmp_path, context=8)
    file = load_text("text", tmp_path / "whole", context=8)
    assert b"".join(p.tobytes() for p in (folder.train, folder.valid, folder.test)) == whole
    assert folder.digest == file.digest
    assert folder.call == {"classes": 256, "context": 8}
    (tmp_path / "whole").write_bytes(whole[:-1] + b"!")
    assert load_text("text", tmp_path / "whole", context=8).digest != file.digest


def test_the_digest_knows_where_the_parts_begin() -> None:
    one, other = (
        Text("t", *(np.frombuffer(p, np.uint8) for p in parts), context=1)
        for parts in ((b"abc", b"de", b"fg"), (b"ab", b"cde", b"fg"))
    )
    assert one.digest != other.digest


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda p: None, "folder is not set; accepted: a text file, or a folder with files *.txt"),
        (lambda p: p / "missing.txt", "missing.txt': No such file or directory"),
        (lambda p: p, "no file *.txt in "),
        (lambda p: [(p / "empty.txt").write_text(""), p][1], "is empty"),
        (lambda p: (p / "a.txt").write_text("0123456789" * 10) and p, "valid: 10 bytes; accepted"),
    ],
)
def test_what_cannot_be_learned_is_one_clear_line(tmp_path: Path, make: Any, says: str) -> None:
    with pytest.raises(DatasetError) as error:
        load_text("text", make(tmp_path), context=10)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "a.txt").chmod(0)
    with pytest.raises(DatasetError, match=r"a\.txt': Permission denied"):
        load_text("text", tmp_path, context=1)


def test_an_unknown_data_set_is_told_of_the_texts() -> None:
    with pytest.raises(DatasetError, match=r"did you mean 'pydoc'\?"):
        load_dataset("pydocs")
