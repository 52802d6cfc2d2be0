from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lm_searcher.spaces.errors import DatasetError
from lm_searcher.tools.evaluators.lora.segmentation.labelled_images import MaskedData
from lm_searcher.tools.evaluators.lora.segmentation.mask_folder import load_masked


def save(path: Path, values: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, np.uint8)).save(path)


def pair(folder: Path, name: str, *values: int, size: int = 8) -> None:
    """A grey photo, and a mask whose columns have these values in turn."""
    rng = np.random.default_rng(len(name))
    save(folder / "images" / f"{name}.jpg", rng.integers(0, 256, (size, size, 3)))
    row = [values[i * len(values) // size] for i in range(size)]
    save(folder / "masks" / f"{name}.png", [row] * size)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(20):
        pair(tmp_path, f"p{number:02}", 0, 1, 2)
    return tmp_path


def load(folder: Path, classes: int | None = None) -> MaskedData:
    return load_masked(folder, side=4, channels=3, classes=classes)


def test_a_folder_is_split_the_same_way_each_time(folder: Path) -> None:
    (folder / "images" / "readme.txt").write_text("not an image")
    data, again = load(folder), load(folder)
    assert [len(part) for part in (data.train, data.valid, data.test)] == [16, 2, 2]
    assert data.classes == 3 and data.train.images.shape == (16, 3, 4, 4)
    assert set(np.unique(data.valid.masks)) == {0, 1, 2}
    assert (data.test.images == again.test.images).all()


def test_subfolders_are_the_splits(tmp_path: Path) -> None:
    for part, number in (("train", 3), ("valid", 2), ("test", 1)):
        for i in range(number):
            pair(tmp_path / part, f"{part}{i}", 0, 1)
    data = load_masked(tmp_path, side=8, channels=1)
    assert [len(part) for part in (data.train, data.valid, data.test)] == [3, 2, 1]
    assert data.test.images.shape == (1, 1, 8, 8)
    assert (data.test.masks[0] == [0] * 4 + [1] * 4).all()


@pytest.mark.parametrize(
    ("values", "classes", "expected"),
    [
        ((0, 255), None, [0, 1]),  # black and white is two classes
        ((0, 255), 2, [0, 1]),
        ((0, 1, 255), None, [0, 1, 255]),  # 255 among others is no label
    ],
)
def test_what_255_stands_for(
    tmp_path: Path, values: tuple[int, ...], classes: int | None, expected: list[int]
) -> None:
    for number in range(3):
        pair(tmp_path, f"p{number}", *values)
    data = load(tmp_path, classes)
    assert data.classes == 2 and np.unique(data.train.masks).tolist() == expected


def test_masks_of_other_kinds(tmp_path: Path) -> None:
    for number in range(3):
        pair(tmp_path, f"p{number}", 0, 1)
    mask = np.repeat(np.arange(2, dtype=np.uint8), 4)[None].repeat(8, 0)
    Image.fromarray(mask.astype(bool)).save(tmp_path / "masks" / "p0.png")
    save(tmp_path / "masks" / "p1.png", mask[:, :, None].repeat(3, 2))  # grey as RGB
    indexed = Image.fromarray(mask, "L").convert("P")
    indexed.putpalette([255, 0, 0, 0, 0, 255])
    indexed.save(tmp_path / "masks" / "p2.png")
    data = load(tmp_path)
    for part in (data.train, data.valid, data.test):
        assert (part.masks[0] == [0, 0, 1, 1]).all()


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def other_size(folder: Path) -> None:
    save(folder / "masks" / "p03.png", np.zeros((8, 6)))


def corrupt(folder: Path) -> None:
    path = folder / "images" / "p04.jpg"
    path.write_bytes(path.read_bytes()[:200])


def no_image_at_all(folder: Path) -> None:
    (folder / "masks" / "p04.png").write_text("a mask, I promise")


def colour(folder: Path) -> None:
    save(folder / "masks" / "p05.png", np.random.default_rng(0).integers(0, 2, (8, 8, 3)))


def deep(folder: Path) -> None:
    Image.fromarray(np.full((8, 8), 300, np.uint16)).save(folder / "masks" / "p06.png")


def a_jpeg_mask(folder: Path) -> None:
    (folder / "masks" / "p07.png").unlink()
    save(folder / "masks" / "p07.jpg", np.zeros((8, 8)))


def twice(folder: Path) -> None:
    save(folder / "images" / "p08.png", np.zeros((8, 8, 3)))


def beyond(folder: Path) -> None:
    pair(folder, "p09", 0, 1, 7)


def no_masks(folder: Path) -> None:
    (folder / "masks").rename(folder / "annotations")


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (remove("masks/p01.png"), r"image '.*p01.jpg' has no mask '.*p01.png'"),
        (remove("images/p02.jpg"), r"mask '.*p02.png' has no image '.*p02\.\*'"),
        (other_size, r"mask '.*p03.png' is 6x8, its image 8x8; accepted: the same size"),
        (corrupt, r"'.*p04.jpg' cannot be read as an image \(.*[Tt]runcated"),
        (no_image_at_all, r"'.*p04.png' cannot be read as an image"),
        (colour, r"mask '.*p05.png' is in colour; accepted: one channel of classes"),
        (deep, r"mask '.*p06.png' holds 300; accepted: 0 to 255"),
        (a_jpeg_mask, r"mask '.*p07.jpg'; accepted: PNG, which keeps each value"),
        (twice, r"'.*p08.jpg' and 'p08.png' have one name"),
        (beyond, r"mask '.*p09.png' holds class 7; accepted: 0 to 2, and 255 for no label"),
        (no_masks, r"folder '.*masks': no such folder; accepted: a folder with images"),
    ],
)
def test_one_line_for_each_thing_that_is_wrong(
    folder: Path, damage: Callable[[Path], None], line: str
) -> None:
    damage(folder)
    with pytest.raises(DatasetError) as error:
        load(folder, classes=3)
    assert re.search(line, str(error.value)) and "\n" not in str(error.value)


def test_a_class_that_training_does_not_have(tmp_path: Path) -> None:
    pair(tmp_path / "train", "a", 0, 1)
    pair(tmp_path / "valid", "b", 0, 2)
    pair(tmp_path / "test", "c", 0, 1)
    with pytest.raises(DatasetError, match=r"b.png' holds class 2, which no training mask has"):
        load(tmp_path)
    pair(tmp_path / "valid", "b", 0, 1)
    with pytest.raises(DatasetError, match=r"class 2 is in no training mask; accepted: each"):
        load(tmp_path, classes=3)
    pair(tmp_path / "train", "a", 0, 2)
    with pytest.raises(DatasetError, match=r"b.png' holds class 1, which no training mask has"):
        load(tmp_path)


def test_too_little(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="nowhere': no such folder"):
        load(tmp_path / "nowhere")
    pair(tmp_path, "a", 0, 1)
    pair(tmp_path, "b", 0, 1)
    with pytest.raises(DatasetError, match="has 2 images; accepted: 3 or more"):
        load(tmp_path)
    (tmp_path / "train").mkdir()
    with pytest.raises(DatasetError, match=r"train.images': no such folder"):
        load(tmp_path)
