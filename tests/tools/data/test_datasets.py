from __future__ import annotations

import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lm_searcher.spaces.errors import DatasetError
from lm_searcher.tools.data.datasets import load_dataset
from lm_searcher.tools.data.image_dataset import Dataset, Split, hold_out, share

ROWS = 20


def split(n: int = 12, classes: int = 3) -> Split:
    images = np.arange(n * 16, dtype=np.uint8).reshape(n, 1, 4, 4)
    return images, np.arange(n, dtype=np.int64) % classes


def as_tuple() -> Any:
    return split(), split(6), split(6)


def as_dict() -> Any:
    images, labels = split()
    part = (images.astype(np.float64), labels.tolist())
    return {"train": part, "valid": part, "test": part}


def as_dataset() -> Dataset:
    return Dataset("own", split(), split(6), split(6), classes=3)


def too_few() -> Any:
    return split(), split()


def no_channels() -> Any:
    images, labels = split()
    return ((images[:, 0], labels),) * 3


def fractional_labels() -> Any:
    images, labels = split()
    return ((images, labels / 2),) * 3


def lost_labels() -> Any:
    images, labels = split()
    return ((images, labels[1:]),) * 3


def negative_labels() -> Any:
    images, labels = split()
    return ((images, labels - 1),) * 3


def two_shapes() -> Any:
    images, labels = split()
    return split(), split(), (images[..., :2], labels)


def not_finite() -> Any:
    images, labels = split()
    return ((images * np.float32(np.nan), labels),) * 3


def batch(rows: int = ROWS, key: bytes = b"labels") -> dict[bytes, Any]:
    images = np.random.default_rng(0).integers(0, 256, (rows, 3072), dtype=np.uint8)
    return {b"data": images, key: [i % 2 for i in range(rows)]}


def write_cifar10(folder: Path, protocol: int = 2) -> Path:
    inner = folder / "cifar-10-batches-py"
    inner.mkdir()
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        (inner / name).write_bytes(pickle.dumps(batch(), protocol=protocol))
    return inner


def python_2_pickle(images: bytes, labels: bytes) -> bytes:
    """The opcodes that Python 2 and its numpy wrote, as they stand in the published files."""
    rows = len(images) // 3072
    return (
        b"\x80\x02}(U\x04datacnumpy.core.multiarray\n_reconstruct\n"
        b"cnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K" + bytes([rows]) + b"M\x00\x0c\x86"
        b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff"
        b"K\x00tb\x89T" + struct.pack("<i", len(images)) + images + b"tb"
        b"U\x06labels](" + b"".join(b"K" + bytes([x]) for x in labels) + b"eu."
    )


class Malice:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("true",)


def test_digits_are_split_as_documented_and_always_the_same() -> None:
    data = load_dataset("digits")
    assert [len(s[1]) for s in (data.train, data.valid, data.test)] == [1000, 400, 397]
    assert data.shape == (1, 8, 8)
    assert data.classes == 10
    for _, labels in (data.train, data.valid, data.test):
        counts = np.bincount(labels)
        assert counts.max() - counts.min() <= 5
    again = load_dataset("digits")
    np.testing.assert_array_equal(data.valid[0], again.valid[0])
    assert data.train[1][:8].tolist() == again.train[1][:8].tolist()


def test_normalisation_knows_the_training_images_only() -> None:
    data = load_dataset("digits")
    images = data.train[0].astype(np.float64)
    np.testing.assert_allclose(data.mean, images.mean(axis=(0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(data.std, images.std(axis=(0, 2, 3)), rtol=1e-6)
    flat = (np.full((4, 1, 2, 2), 7, np.uint8), np.arange(4))
    assert Dataset("flat", flat, flat, flat, 4).std.tolist() == [1.0]


def test_hold_out_keeps_every_image_once_and_is_stratified() -> None:
    labels = np.repeat(np.arange(4), [40, 20, 20, 20])
    images = np.arange(100, dtype=np.float32).reshape(100, 1, 1, 1)
    rest, held = hold_out((images, labels), 10)
    assert np.bincount(held[1]).tolist() == [4, 2, 2, 2]
    assert sorted([*rest[0].ravel(), *held[0].ravel()]) == list(range(100))


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_cifar10_from_either_folder(tmp_path: Path, protocol: int) -> None:
    inner = write_cifar10(tmp_path, protocol)
    for folder in (tmp_path, inner):
        data = load_dataset("cifar10", folder)
        assert data.shape == (3, 32, 32)
        assert [len(s[1]) for s in (data.train, data.valid, data.test)] == [90, 10, 20]
        np.testing.assert_array_equal(data.test[0].reshape(ROWS, -1), batch()[b"data"])


def test_cifar100_reads_the_fine_labels(tmp_path: Path) -> None:
    for name in ("train", "test"):
        (tmp_path / name).write_bytes(pickle.dumps(batch(key=b"fine_labels")))
    assert load_dataset("cifar100", tmp_path).classes == 100


def test_a_file_of_python_2_is_read(tmp_path: Path) -> None:
    folder = write_cifar10(tmp_path)
    images = bytes(range(256)) * 12 * 2
    (folder / "test_batch").write_bytes(python_2_pickle(images, bytes([3, 7])))
    test = load_dataset("cifar10", folder).test
    assert test[0].tobytes() == images
    assert test[1].tolist() == [3, 7]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (pickle.dumps(batch())[:5000], "truncated"),
        (b"", "truncated"),
        (b"\x00\x01\x02", "no CIFAR batch"),
        (pickle.dumps([1, 2]), "a dict with 'data' and 'labels'"),
        (pickle.dumps({b"data": [1], b"labels": [1]}), "int64 (1,); accepted: uint8 (n, 3072)"),
        (pickle.dumps(batch() | {b"labels": ["cat"] * ROWS}), "a list in it"),
        (pickle.dumps(batch() | {b"labels": [1]}), "(1,) int64 labels for 20 images"),
        (pickle.dumps(batch() | {b"data": np.zeros((20, 7), np.uint8)}), "uint8 (20, 7)"),
        (pickle.dumps(batch() | {b"data": np.array([None])}), "type 'O8' is not allowed"),
        (pickle.dumps(batch() | {b"labels": [11] * ROWS}), "labels from 0 to 11"),
        (pickle.dumps(Malice()), "system', which is not allowed"),
    ],
)
def test_a_wrong_file_is_one_clear_line(tmp_path: Path, content: bytes, says: str) -> None:
    folder = write_cifar10(tmp_path)
    (folder / "data_batch_3").write_bytes(content)
    with pytest.raises(DatasetError) as error:
        load_dataset("cifar10", folder)
    assert says in str(error.value)
    assert "data_batch_3" in str(error.value) or "dataset 'cifar10'" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_or_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no folder .*nowhere"):
        load_dataset("cifar10", tmp_path / "nowhere")
    with pytest.raises(DatasetError, match="data_batch_1': no such file; accepted: the folder"):
        load_dataset("cifar10", tmp_path)
    with pytest.raises(DatasetError, match="folder is not set"):
        load_dataset("cifar100")
    with pytest.raises(DatasetError, match="unknown dataset 'digit'; did you mean 'digits'"):
        load_dataset("digit")


@pytest.fixture
def own_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)


@pytest.mark.usefixtures("own_module")
@pytest.mark.parametrize("function", ["as_tuple", "as_dict", "as_dataset"])
def test_the_users_own_function(function: str) -> None:
    data = load_dataset(f"test_datasets:{function}")
    assert data.classes == 3
    assert data.shape == (1, 4, 4)
    assert len(data.train[0]) == 12


@pytest.mark.usefixtures("own_module")
@pytest.mark.parametrize(
    ("function", "says"),
    [
        ("too_few", "returned a tuple; accepted: a Dataset, or train, valid and test"),
        ("no_channels", "uint8 of shape (12, 4, 4); accepted: uint8 or float32 of shape [n, "),
        ("fractional_labels", "labels are float64; accepted: whole numbers"),
        ("lost_labels", "labels are int64 of shape (11,); accepted: int64 of shape (12,)"),
        ("negative_labels", "labels from -1 to 1"),
        ("two_shapes", "images of different shapes"),
        ("not_finite", "nan or infinity"),
        ("absent", "has no attribute 'absent'"),
        ("ROWS", "'ROWS' is a int, not a function"),
    ],
)
def test_a_wrong_function_is_one_clear_line(function: str, says: str) -> None:
    with pytest.raises(DatasetError) as error:
        load_dataset(f"test_datasets:{function}")
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_a_module_that_does_not_import_is_named() -> None:
    with pytest.raises(DatasetError, match="cannot import 'nowhere'"):
        load_dataset("nowhere:load")
    with pytest.raises(DatasetError, match='accepted is "module:function"'):
        load_dataset("nowhere:")


def test_a_share_of_the_training_data_is_balanced_and_always_the_same() -> None:
    digits = load_dataset("digits")
    few = share(digits, 0.25)
    assert few.valid is digits.valid and few.test is digits.test
    before, after = (np.bincount(d.train[1], minlength=10) for d in (digits, few))
    assert after.sum() == 250 and np.abs(after - before / 4).max() <= 1
    again = share(digits, 0.25)
    assert all(np.array_equal(a, b) for a, b in zip(few.train, again.train, strict=True))
    with pytest.raises(DatasetError, match=r"data_fraction = 0\.005 leaves 5 of 1000 training"):
        share(digits, 0.005)
