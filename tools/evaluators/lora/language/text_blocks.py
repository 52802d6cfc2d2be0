"""Text to adapt a language model to, as blocks of tokens.

numpy only, and no threads: worker processes fork after loading.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.abc import InspectLoader
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lm_searcher.spaces.errors import DatasetError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Blocks = NDArray[np.int64]
"""Tokens, shape [blocks, context]."""

Encode = Callable[[str], NDArray[np.int64]]
"""From a text to its tokens, shape [tokens]."""

LIBRARY = (
    (("argparse", "difflib", "doctest", "inspect", "logging", "optparse", "subprocess"), 20),
    (("shutil", "statistics"), 3),
    (("configparser", "threading"), 3),
)
"""For training, validation and test: modules of Python's standard library, whose source is the
text, and n, of which only every n-th block is used to keep trials short."""


@dataclass(frozen=True)
class Text:
    """At least one block each to train on, to steer the search by, and to report at the end."""

    train: Blocks
    valid: Blocks
    test: Blocks


def topics() -> str:
    """Python's help on its syntax and types, in English: the text of the embedded base."""
    from pydoc_data.topics import topics as texts

    return "\n\n".join(texts[name] for name in sorted(texts))


def of_bytes(text: str) -> NDArray[np.int64]:
    """The embedded base's tokens: the bytes of the UTF-8 text."""
    return np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int64)


def of_tokenizer(tokenizer: PreTrainedTokenizerBase) -> Encode:
    """The function from a text to a pretrained model's tokens."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # its threads would not survive the fork

    def encode(text: str) -> NDArray[np.int64]:
        found = tokenizer(
            text, add_special_tokens=False, verbose=False, return_attention_mask=False
        )
        return np.array(found["input_ids"], dtype=np.int64)

    return encode


def blocks(tokens: NDArray[np.int64], context: int) -> Blocks:
    """The tokens in blocks of `context`; an incomplete last block is dropped."""
    return tokens[: len(tokens) // context * context].reshape(-1, context)


def library_text(context: int, encode: Encode) -> Text:
    """Source code of Python's standard library. Raises DatasetError."""
    parts = (
        blocks(encode("\n".join(map(_source, modules))), context)[::every]
        for modules, every in LIBRARY
    )
    return Text(*parts)


def folder_text(path: Path, context: int, encode: Encode) -> Text:
    """A text file, or all files of a folder in the order of their names.

    The first eight tenths of the blocks are for training, the next tenth for validation and the
    last for test. Raises DatasetError.
    """
    tokens = np.concatenate([encode(_read(file)) for file in _files(path)])
    whole = blocks(tokens, context)
    held = len(whole) // 10
    if not held:
        raise DatasetError(
            f"text '{path}': {len(tokens)} tokens are too few for blocks of {context}; accepted: "
            f"{10 * context} or more, or a smaller context"
        )
    return Text(whole[: -2 * held], whole[-2 * held : -held], whole[-held:])


def _source(module: str) -> str:
    spec = importlib.util.find_spec(module)
    loader = spec.loader if spec else None
    text = loader.get_source(module) if isinstance(loader, InspectLoader) else None
    if not text:
        raise DatasetError(
            f"the source of Python's module '{module}' is not installed; give folder, a text file "
            "or a folder of them"
        )
    return text


def _files(path: Path) -> Sequence[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DatasetError(f"text '{path}': no such file or folder")
    found = sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
    if not found:
        raise DatasetError(f"text '{path}': the folder is empty; accepted: text files in UTF-8")
    return found


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DatasetError(f"text '{file}' is no UTF-8 (byte {error.start})") from None
    except OSError as error:
        raise DatasetError(f"text '{file}': {error.strerror}") from None
