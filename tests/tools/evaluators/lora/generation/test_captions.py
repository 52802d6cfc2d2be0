"""Folders of images with captions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lm_searcher.spaces.errors import DatasetError
from lm_searcher.tools.evaluators.lora.generation.captions import load_captioned


def paint(folder: Path, count: int, *, beside: bool = True) -> Path:
    """Images of one colour each, `number` the red, wider than high."""
    folder.mkdir()
    for number in range(count):
        Image.new("RGB", (12, 8), (number, 0, 255)).save(folder / f"{number:02}.png")
        if beside:
            (folder / f"{number:02}.txt").write_text(f" a  picture of {number}\n")
    return folder


def test_images_and_captions_stay_together(tmp_path: Path) -> None:
    splits = load_captioned(paint(tmp_path / "in", 13), 4)
    assert [len(s) for s in (splits.train, splits.valid, splits.test)] == [9, 2, 2]
    seen = []
    for part in (splits.train, splits.valid, splits.test):
        assert part.images.shape == (len(part), 3, 4, 4) and part.images.dtype == np.uint8
        for image, caption in zip(part.images, part.captions, strict=True):
            assert caption == f"a picture of {image[0, 0, 0]}" and (image[2] == 255).all()
            seen.append(caption)
    assert len(set(seen)) == 13


def test_metadata_comes_before_text_files(tmp_path: Path) -> None:
    folder = paint(tmp_path / "in", 3)
    lines = [{"file_name": f"{n:02}.png", "text": f"number {n}"} for n in range(2)]
    (folder / "metadata.jsonl").write_text("\n\n".join(json.dumps(line) for line in lines))
    splits = load_captioned(folder, 4)
    captions = {*splits.train.captions, *splits.valid.captions, *splits.test.captions}
    assert captions == {"number 0", "number 1", "a picture of 2"}


def test_an_image_is_cut_around_its_middle(tmp_path: Path) -> None:
    folder = paint(tmp_path / "in", 3)
    pixels = np.zeros((4, 8, 3), dtype=np.uint8)
    pixels[:, 2:6] = 200
    for name in ("00", "01", "02"):
        Image.fromarray(pixels).convert("RGBA").save(folder / f"{name}.png")
    assert (load_captioned(folder, 4).train.images == 200).all()


def fails(folder: Path, *words: str) -> None:
    with pytest.raises(DatasetError) as raised:
        load_captioned(folder, 4)
    assert all(word in str(raised.value) for word in words), raised.value
    assert "\n" not in str(raised.value)


def test_bad_folders_are_told_in_one_line(tmp_path: Path) -> None:
    fails(tmp_path / "none", "no such directory")
    fails(paint(tmp_path / "two", 2), "has 2 images", "3 or more")
    fails(paint(tmp_path / "bare", 3, beside=False), "has no captions", "metadata.jsonl")
    folder = paint(tmp_path / "in", 4)
    (folder / "01.txt").unlink()
    fails(folder, "01.png", "has no caption")
    (folder / "01.txt").write_bytes(b"\xff\xfe\xfa")
    fails(folder, "01.txt", "cannot be read")
    (folder / "01.txt").write_text("one")
    noisy = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(noisy).save(folder / "02.png")
    whole = (folder / "02.png").read_bytes()
    for bad in (whole[: len(whole) // 2], b"not an image", b""):
        (folder / "02.png").write_bytes(bad)
        fails(folder, "02.png", "cannot be read")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "no valid JSON"),
        ("[1]", "file_name and text"),
        ('{"file_name": "00.png"}', "file_name and text"),
        ('{"file_name": "99.png", "text": "x"}', "no image '99.png'"),
    ],
)
def test_bad_metadata_names_its_line(tmp_path: Path, line: str, said: str) -> None:
    folder = paint(tmp_path / "in", 3)
    (folder / "metadata.jsonl").write_text('{"file_name": "00.png", "text": "x"}\n' + line)
    fails(folder, "metadata.jsonl', line 2", said)
