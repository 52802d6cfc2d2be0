"""CIFAR-10 and CIFAR-100 from the python version that their authors publish.

These files are pickles, and a pickle can run any code. The unpickler here accepts only the few
names that an array of numbers needs, and has its own stand-in for each. The real numpy functions
are not safe: with a damaged array state they read outside of their memory.
"""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lm_searcher.spaces.errors import DatasetError, one_line

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
    """The training and the test split: images uint8 [n, 3, 32, 32] and labels int64 [n].

    `name` is cifar10 or cifar100. Raises DatasetError that names the file if it is missing,
    truncated, of another format, or holds anything but arrays of numbers.
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
    """Images and labels of one file; `key` is that of the labels. Raises DatasetError."""
    try:
        with file.open("rb") as stream:
            batch = _ArraysOnly(stream, encoding="bytes").load()
    except FileNotFoundError as error:
        raise DatasetError(f"'{file}': no such file; accepted: {ACCEPTED}") from error
    except OSError as error:
        raise DatasetError(f"'{file}': cannot be read ({error.strerror})") from error
    except _DAMAGE as error:
        raise DatasetError(
            f"'{file}': truncated, or no CIFAR batch of the python version ({one_line(error)})"
        ) from error
    if not isinstance(batch, dict) or not {b"data", key} <= set(batch):
        raise DatasetError(f"'{file}': accepted: a dict with 'data' and '{key.decode()}'")
    data, labels = _to_numpy(file, batch[b"data"]), _to_numpy(file, batch[key])
    if data.dtype != np.uint8 or data.shape[1:] != (3072,):
        raise DatasetError(
            f"'{file}': data is {data.dtype} {data.shape}; accepted: uint8 (n, 3072)"
        )
    if labels.dtype.kind not in "ui" or labels.shape != data.shape[:1]:
        raise DatasetError(
            f"'{file}': {labels.shape} {labels.dtype} labels for {len(data)} images; "
            "accepted: one whole number an image"
        )
    # A row holds the red, the green and the blue plane of an image, each row by row.
    return data.reshape(-1, 3, 32, 32), labels.astype(np.int64)


def _to_numpy(file: Path, value: object) -> NDArray[Any]:
    if isinstance(value, _Array):
        return value.values
    if isinstance(value, list) and all(type(item) is int for item in value):
        return np.array(value, dtype=np.int64)
    raise DatasetError(f"'{file}': a {type(value).__name__} in it; accepted: arrays of numbers")


class _Number:
    """Stands for numpy.dtype, for integers only: ``dtype("u1", ...)``, then its state."""

    def __init__(self, code: str | bytes, *flags: object) -> None:
        self.code = code.decode("ascii") if isinstance(code, bytes) else code
        if not re.fullmatch(r"[ui][1248]", self.code):
            raise pickle.UnpicklingError(f"an array of type '{self.code}' is not allowed")

    def __setstate__(self, state: tuple[object, ...]) -> None:
        if state[1] not in ("<", "|", b"<", b"|"):
            raise pickle.UnpicklingError("an array of big-endian numbers is not allowed")


class _Array:
    """Stands for numpy.ndarray, which pickle creates empty and then gives its state."""

    values: NDArray[Any] = np.zeros(0, dtype=np.uint8)

    def __init__(self, *arguments: object) -> None:
        """The arguments are the same for every array and are not used."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, number, in_columns, raw = state
        self.values = _values(raw, number, shape, "F" if in_columns else "C")


def _from_buffer(raw: Any, number: _Number, shape: tuple[int, ...], order: str) -> _Array:
    array = _Array()
    array.values = _values(raw, number, shape, order)
    return array


def _values(raw: Any, number: _Number, shape: tuple[int, ...], order: str) -> NDArray[Any]:
    flat = np.frombuffer(bytes(raw), dtype=np.dtype(number.code))
    return flat.reshape(shape, order="F" if order == "F" else "C")


def _encode(text: str, encoding: object) -> bytes:
    """Stands for codecs.encode, with which Python 3 writes bytes in its older protocols."""
    return text.encode("latin1")


_STAND_INS = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Number,
    ("_codecs", "encode"): _encode,
    # The module was numpy.core before numpy 2.
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("numpy._core.numeric", "_frombuffer"): _from_buffer,
}


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _STAND_INS:
            return _STAND_INS[module, name]
        raise pickle.UnpicklingError(f"it asks for '{module}.{name}', which is not allowed")


# Errors of the unpickler and the stand-ins for a damaged file.
_DAMAGE = (
    pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, IndexError,
    AttributeError, OverflowError, MemoryError, NotImplementedError,
)  # fmt: skip
