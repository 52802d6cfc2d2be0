"""CIFAR-10 and CIFAR-100 from the python version that their authors publish.

Those files are pickles, and a pickle can run any code. The unpickler here knows the few names
that an array of numbers needs and refuses every other.
"""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lm_searcher.spaces.errors import DatasetError

FOLDERS = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}
ACCEPTED = (
    "the folder of the unpacked python version, cifar-10-batches-py with data_batch_1 to 5 and "
    "test_batch or cifar-100-python with train and test, or the folder that holds it"
)

_FILES = {
    "cifar10": ([f"data_batch_{i}" for i in range(1, 6)], "test_batch", b"labels"),
    "cifar100": (["train"], "test", b"fine_labels"),
}


def load(
    name: str, folder: Path
) -> tuple[tuple[NDArray[Any], NDArray[np.int64]], tuple[NDArray[Any], NDArray[np.int64]]]:
    """The training and the test images uint8 [n, 3, 32, 32], each with labels int64 [n].

    `name` is cifar10 or cifar100. Raises DatasetError, naming the file, for one that is missing,
    truncated, of another format, or that asks for anything but arrays of numbers.
    """
    if (folder / FOLDERS[name]).is_dir():
        folder = folder / FOLDERS[name]
    if not folder.is_dir():
        raise DatasetError(f"dataset '{name}': no folder '{folder}'; accepted: {ACCEPTED}")
    train_files, test_file, key = _FILES[name]
    parts = [read_batch(folder / file, key) for file in train_files]
    train = np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])
    return train, read_batch(folder / test_file, key)


def read_batch(file: Path, key: bytes) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Images and labels of one file, whose labels are under `key`. Raises DatasetError."""
    try:
        with file.open("rb") as stream:
            batch = _ArraysOnly(stream, encoding="bytes").load()
    except FileNotFoundError as error:
        raise DatasetError(f"'{file}': no such file; accepted: {ACCEPTED}") from error
    except OSError as error:
        raise DatasetError(f"'{file}': cannot be read ({error.strerror})") from error
    except _DAMAGE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DatasetError(
            f"'{file}': truncated, or no CIFAR batch of the python version ({reason})"
        ) from error
    if not isinstance(batch, dict) or not {b"data", key} <= set(batch):
        raise DatasetError(f"'{file}': accepted: a dict with 'data' and '{key.decode()}'")
    data, labels = batch[b"data"], np.asarray(batch[key])
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape[1:] != (3072,):
        shape = f"{data.dtype} {data.shape}" if isinstance(data, np.ndarray) else type(data)
        raise DatasetError(f"'{file}': data is {shape}; accepted: uint8 (n, 3072)")
    if labels.dtype.kind not in "ui" or labels.shape != data.shape[:1]:
        raise DatasetError(
            f"'{file}': {labels.shape} {labels.dtype} labels for {len(data)} images; "
            "accepted: one whole number an image"
        )
    return data.reshape(-1, 3, 32, 32), labels.astype(np.int64)


# What a damaged pickle makes the unpickler raise, or numpy on its behalf.
_DAMAGE = (
    pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, IndexError,
    AttributeError, OverflowError, MemoryError, NotImplementedError,
)  # fmt: skip


def _dtype(code: str | bytes, *flags: object) -> np.dtype[Any]:
    # Called in the place of numpy.dtype: for numbers only, and without the flags in the file,
    # where old ones hold 0 for False, of which new versions of numpy warn. A copy, since the
    # file goes on to change its state.
    text = code.decode("ascii") if isinstance(code, bytes) else code
    if not re.fullmatch(r"[ui][1248]", text):
        raise pickle.UnpicklingError(f"an array of type '{text}' is not allowed")
    return np.dtype(text, copy=True)


def _encode(text: str, encoding: str | bytes) -> bytes:
    # Called in the place of codecs.encode, with which Python 3 writes bytes in old protocols.
    return text.encode("latin1")


_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): _dtype,
    ("_codecs", "encode"): _encode,
}
for _core in ("numpy.core", "numpy._core"):  # the name until numpy 2, and since
    # Taken from an array, not imported: both names are private, and the old one warns.
    _ALLOWED[f"{_core}.multiarray", "_reconstruct"] = np.zeros(1).__reduce_ex__(2)[0]
    _ALLOWED[f"{_core}.numeric", "_frombuffer"] = np.zeros(1).__reduce_ex__(5)[0]


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        raise pickle.UnpicklingError(f"it asks for '{module}.{name}', which is not allowed")
