"""Text to learn a language model from, as bytes: 256 symbols, whatever the language.

numpy only, as `datasets`: worker processes fork after loading.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lm_searcher.spaces.errors import DatasetError

NAMES = ("pydoc", "text")
SYMBOLS = 256
ACCEPTED = "a text file, or a folder with files *.txt"

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Text:
    """What a model learns from (`train`), what steers the search (`valid`) and what reports it.

    Bytes of shape [n]. Raises DatasetError for a part that is too short for a window: `context`
    bytes and the one that follows.
    """

    name: str
    train: Bytes
    valid: Bytes
    test: Bytes
    context: int

    def __post_init__(self) -> None:
        for part in ("train", "valid", "test"):
            if (length := len(getattr(self, part))) <= self.context:
                raise DatasetError(
                    f"dataset '{self.name}', {part}: {length} bytes; accepted: more than "
                    f"context = {self.context}, in each of train, valid and test (8 : 1 : 1)"
                )

    @property
    def call(self) -> dict[str, Any]:
        """The keywords with which a space's builder is told of this data."""
        return {"classes": SYMBOLS, "context": self.context}

    @cached_property
    def digest(self) -> str:
        """Tells this text from another; that of `pydoc` differs from Python to Python."""
        digest = hashlib.sha256()
        for part in (self.train, self.valid, self.test):
            digest.update(len(part).to_bytes(8, "big") + part.tobytes())
        return digest.hexdigest()[:16]


def load_text(name: str, folder: str | Path | None, context: int) -> Text:
    """A text by name: `pydoc`, Python's own documentation, or `text`, the user's own.

    `folder` is the user's file, or a folder of which all files *.txt are read. The bytes are
    taken as they are. Raises DatasetError.
    """
    if name == "pydoc":
        from pydoc_data.topics import topics  # half a megabyte, and only this text needs it

        documents = [text.encode() for text in distinct(topics)]
    else:
        documents = _read(folder)
    return Text(name, *split(documents), context)


def distinct(topics: Mapping[str, str]) -> list[str]:
    """The topics by name, each paragraph only once: in the longest topic that has it.

    Many a short topic is a passage of a longer one, and would be held out though it is learned.
    """
    seen: set[str] = set()
    kept: dict[str, str] = {}
    for name, text in sorted(topics.items(), key=lambda item: (-len(item[1]), item[0])):
        paragraphs = [p for p in text.split("\n\n") if p.strip() not in seen]
        seen.update(p.strip() for p in paragraphs)
        kept[name] = "\n\n".join(paragraphs)
    return [kept[name] for name in sorted(kept)]


def _read(folder: str | Path | None) -> list[bytes]:
    if folder is None:
        raise DatasetError(f"dataset 'text': folder is not set; accepted: {ACCEPTED}")
    path = Path(folder)
    files = sorted(path.rglob("*.txt")) if path.is_dir() else [path]
    if not files:
        raise DatasetError(f"dataset 'text': no file *.txt in '{folder}'; accepted: {ACCEPTED}")
    try:
        documents = [file.read_bytes() for file in files]
    except OSError as error:
        raise DatasetError(
            f"dataset 'text': '{error.filename}': {error.strerror}; accepted: {ACCEPTED}"
        ) from None
    if not any(documents):
        raise DatasetError(f"dataset 'text': '{folder}' is empty; accepted: {ACCEPTED}")
    return documents


def split(documents: Sequence[bytes]) -> tuple[Bytes, Bytes, Bytes]:
    """Train, valid and test, about 8 : 1 : 1 and always the same; empty documents are left out.

    By whole documents, those that fit into a tenth being dealt in a fixed random order. Where
    they cannot make up half a tenth, one long file say, the text is cut in order instead.
    """
    documents = [text for text in documents if text]
    size = sum(map(len, documents))
    parts = _dealt(documents, size // 10)
    if min(map(len, parts)) < size // 20:
        whole = b"".join(documents)
        a, b = len(whole) * 8 // 10, len(whole) * 9 // 10
        parts = whole[:a], whole[a:b], whole[b:]
    train, valid, test = (np.frombuffer(part, dtype=np.uint8) for part in parts)
    return train, valid, test


def _dealt(documents: Sequence[bytes], tenth: int) -> tuple[bytes, bytes, bytes]:
    # RandomState, because numpy promises that its stream stays the same for ever.
    order = np.random.RandomState(0).permutation(len(documents))
    held_out: list[list[int]] = []
    taken: set[int] = set()
    for _ in ("valid", "test"):
        room, chosen = tenth, []
        for i in order.tolist():
            if i not in taken and len(documents[i]) <= room:
                room -= len(documents[i])
                chosen.append(i)
        taken.update(chosen)
        held_out.append(chosen)
    train = [i for i in range(len(documents)) if i not in taken]
    groups = (train, *(sorted(chosen) for chosen in held_out))
    a, b, c = (b"\n\n".join(documents[i] for i in group) for group in groups)
    return a, b, c
