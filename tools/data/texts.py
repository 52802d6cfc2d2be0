"""Text to train a language model on, as bytes: 256 symbols for any language.

numpy only, as in `image_dataset`: worker processes fork after loading.
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
    """Text to train on, to steer the search by (`valid`), and to report at the end (`test`).

    Bytes, uint8 [n]. Raises DatasetError for a part that is shorter than a window, which is
    `context` bytes and the next one.
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
        """The keywords that a space's builder gets for this data."""
        return {"classes": SYMBOLS, "context": self.context}

    @cached_property
    def digest(self) -> str:
        """A hash of the three parts; `pydoc` differs between versions of Python."""
        digest = hashlib.sha256()
        for part in (self.train, self.valid, self.test):
            digest.update(len(part).to_bytes(8, "big") + part.tobytes())
        return digest.hexdigest()[:16]


def load_text(name: str, folder: str | Path | None, context: int) -> Text:
    """Load a text by name: `pydoc`, Python's own documentation, or `text`, the user's own.

    `folder` is the user's file, or a folder whose files *.txt are read. Bytes are not decoded.
    Raises DatasetError.
    """
    if name == "pydoc":
        from pydoc_data.topics import topics  # half a megabyte

        documents = [text.encode() for text in distinct(topics)]
    else:
        documents = _read(folder)
    return Text(name, *split(documents), context)


def distinct(topics: Mapping[str, str]) -> list[str]:
    """The topics in order of name, each paragraph only in the longest topic that has it.

    Many short topics repeat a passage of a longer one; held-out text would be in the training text.
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
    """Train, valid and test, about 8 : 1 : 1 and the same in every call; no empty documents.

    Whole documents are held out, in a fixed random order, as far as they fit into a tenth. If they
    do not fill half of it, as with one long file, the text is cut in order instead.
    """
    documents = [text for text in documents if text]
    size = sum(map(len, documents))
    parts = _by_document(documents, size // 10)
    if min(map(len, parts)) < size // 20:
        whole = b"".join(documents)
        a, b = len(whole) * 8 // 10, len(whole) * 9 // 10
        parts = whole[:a], whole[a:b], whole[b:]
    train, valid, test = (np.frombuffer(part, dtype=np.uint8) for part in parts)
    return train, valid, test


def _by_document(documents: Sequence[bytes], tenth: int) -> tuple[bytes, bytes, bytes]:
    # RandomState: numpy promises that its stream never changes.
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
