from __future__ import annotations

import io
import os
import threading
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import nn

from lm_searcher.agent.settings.build import from_run_file
from lm_searcher.agent.settings.run_file import RunFile
from lm_searcher.spaces.errors import ConfigError, DatasetError
from lm_searcher.spaces.settings import checked
from lm_searcher.spaces.space import Choice, SearchSpace
from lm_searcher.tools.data import image_files
from lm_searcher.tools.data.datasets import load_dataset
from lm_searcher.tools.data.image_folder import sources
from lm_searcher.tools.evaluators.training.evaluator import TrainEvaluator
from lm_searcher.tools.protocols import Evaluation

COLOURS = {"ant": (200, 0, 0), "bee": (0, 200, 0), "cat": (0, 0, 200)}


def picture(path: Path, colour: tuple[int, int, int], size: tuple[int, int] = (20, 12)) -> None:
    """A plain picture; the first pixel tells it from others of its class."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def part(folder: Path, count: int, suffix: str = ".png") -> None:
    for name, colour in COLOURS.items():
        for i in range(count):
            shade = tuple(c + i for c in colour)
            picture(folder / name / f"{i:02}{suffix}", shade)  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "images"
    part(path / "train", 6)
    part(path / "val", 4)
    return path


def counts(labels: np.ndarray) -> list[int]:
    return np.bincount(labels, minlength=3).tolist()


def test_a_folder_is_read_and_every_image_is_used_once(folder: Path) -> None:
    (folder / "runs").mkdir()  # whatever else lies there is passed over
    data = load_dataset("folder", folder, image_size=8)
    assert (data.classes, data.shape) == (3, (3, 8, 8))
    assert [counts(s[1]) for s in (data.train, data.valid, data.test)] == [
        [6, 6, 6], [2, 2, 2], [2, 2, 2]
    ]  # fmt: skip
    held = [tuple(image[:, 0, 0].tolist()) for s in (data.valid, data.test) for image in s[0]]
    assert sorted(held) == sorted(
        tuple(c + i for c in colour) for colour in COLOURS.values() for i in range(4)
    )
    for images, labels in (data.train, data.valid, data.test):
        assert images.dtype == np.uint8
        np.testing.assert_array_equal(images[:, :, 4, 4].argmax(axis=1), labels)
    again = load_dataset("folder", folder, image_size=8)
    np.testing.assert_array_equal(again.test[0], data.test[0])


def test_what_is_missing_is_held_out_and_said(folder: Path) -> None:
    half = "half of val, held out"
    assert sources(folder) == {"valid": half, "test": half}
    part(folder / "test", 2)
    assert sources(folder) == {"valid": "val", "test": "test"}
    data = load_dataset("folder", folder, image_size=4)
    assert [len(s[1]) for s in (data.train, data.valid, data.test)] == [18, 12, 6]
    (folder / "val").rename(folder.parent / "away")
    tenth = "a tenth of train, held out"
    assert sources(folder) == {"valid": tenth, "test": "test"}
    data = load_dataset("folder", folder, image_size=4)
    assert [len(s[1]) for s in (data.train, data.valid, data.test)] == [17, 1, 6]
    (folder / "test").rename(folder.parent / "gone")
    assert sources(folder) == {"valid": tenth, "test": tenth}
    data = load_dataset("folder", folder, image_size=4)
    assert [len(s[1]) for s in (data.train, data.valid, data.test)] == [16, 1, 1]


def test_any_kind_of_image_is_resized_cut_and_turned(tmp_path: Path) -> None:
    wide = Image.new("RGB", (40, 10))
    wide.paste((250, 250, 250), (15, 0, 25, 10))  # the middle square, the rest is cut away
    wide.save(tmp_path / "wide.png")
    Image.new("L", (9, 30), 250).save(tmp_path / "grey.png")
    Image.new("RGBA", (8, 8), (250, 250, 250, 255)).save(tmp_path / "alpha.PNG")
    Image.new("P", (8, 8), 0).save(tmp_path / "palette.gif")
    turned = Image.new("RGB", (8, 16))
    turned.paste((250, 250, 250), (0, 0, 8, 8))
    exif = Image.Exif()
    exif[274] = 3  # the camera was upside down
    turned.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    names = ["wide.png", "grey.png", "alpha.PNG", "palette.gif", "turned.jpg"]
    images = image_files.decoded([tmp_path / name for name in names], 8, None)
    assert images.shape == (5, 3, 8, 8)
    assert (images[:3, :, :, 2:6] > 240).all() and (images[3] == 0).all()
    assert images[4, 0, 0].mean() < 60 and images[4, 0, -1].mean() > 190


def test_a_small_copy_of_a_large_photograph_is_faithful(tmp_path: Path) -> None:
    ramp = np.broadcast_to(np.linspace(0, 255, 640).astype(np.uint8)[None, :, None], (640, 640, 3))
    Image.fromarray(np.ascontiguousarray(ramp)).save(tmp_path / "ramp.jpg", quality=95)
    image = image_files.decoded([tmp_path / "ramp.jpg"], 16, None)[0]
    wanted = (np.arange(16) + 0.5) * 255 / 16
    assert np.abs(image - wanted[None, None]).max() < 6


def test_no_thread_outlives_the_decoding(folder: Path) -> None:
    before = threading.active_count()
    load_dataset("folder", folder, image_size=8)
    assert threading.active_count() == before


def test_the_cache_is_found_again_until_a_file_changes(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "new" / "cache"
    plain = load_dataset("folder", folder, image_size=8)
    data = load_dataset("folder", folder, 8, cache)
    np.testing.assert_array_equal(data.train[0], plain.train[0])
    assert isinstance(data.train[0].base, np.memmap)
    kept = {p: p.stat().st_mtime_ns for p in cache.glob("*.npy")}
    assert len(kept) == 3
    load_dataset("folder", folder, 8, cache)
    assert {p: p.stat().st_mtime_ns for p in cache.glob("*.npy")} == kept
    load_dataset("folder", folder, 4, cache)
    assert len(list(cache.glob("*.npy"))) == 6
    picture(folder / "train" / "ant" / "00.png", (90, 91, 92))
    assert load_dataset("folder", folder, 8, cache).train[0][0, :, 0, 0].tolist() == [90, 91, 92]
    assert len(list(cache.glob("*.npy"))) == 7
    assert not list(cache.glob(".*.part")), "what is written in part is gone"


def test_a_damaged_cache_is_made_anew(folder: Path, tmp_path: Path) -> None:
    images = load_dataset("folder", folder, 8, tmp_path / "cache").train[0].copy()
    for path in (tmp_path / "cache").glob("*.npy"):
        path.write_bytes(path.read_bytes()[:200])
    again = load_dataset("folder", folder, 8, tmp_path / "cache")
    np.testing.assert_array_equal(again.train[0], images)


def test_a_cache_that_cannot_be_is_one_line(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match=r"cache '.*file': cannot be written \(.*\)"):
        load_dataset("folder", folder, 8, tmp_path / "file")


# -- what is wrong with a folder -----------------------------------------------------------------


def truncated(folder: Path) -> None:
    path = folder / "train" / "bee" / "03.jpg"
    picture(path, (1, 2, 3), (64, 64))
    path.write_bytes(path.read_bytes()[:-40])


def text(folder: Path) -> None:
    (folder / "val" / "cat" / "notes.jpeg").write_text("no picture")


def script(folder: Path) -> None:
    (folder / "val" / "cat" / "x.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9")


def bomb(folder: Path, side: int = 20_000) -> None:
    head = io.BytesIO()
    Image.new("1", (8, 8)).save(head, "PPM")
    data = head.getvalue().replace(b"8 8", f"{side} {side}".encode())
    (folder / "train" / "ant" / "bomb.ppm").write_bytes(data)


def small_bomb(folder: Path) -> None:
    bomb(folder, 10_000)  # where Pillow itself would only warn


def empty_class(folder: Path) -> None:
    (folder / "train" / "dog").mkdir()
    (folder / "train" / "dog" / "readme.txt").write_text("none yet")


def strange_class(folder: Path) -> None:
    picture(folder / "val" / "dog" / "0.png", (1, 2, 3))


def strange_classes(folder: Path) -> None:
    strange_class(folder)
    picture(folder / "val" / "elk" / "0.png", (1, 2, 3))


def lacking_class(folder: Path) -> None:
    (folder / "val" / "bee").rename(folder.parent / "bee")


def no_train(folder: Path) -> None:
    (folder / "train").rename(folder.parent / "train")


def without_classes(folder: Path) -> None:
    (folder / "test").mkdir()
    picture(folder / "test" / "0.png", (1, 2, 3))


def misnamed(folder: Path) -> None:
    (folder / "val").rename(folder / "validation")


def one_class(folder: Path) -> None:
    for name in ("bee", "cat"):
        (folder / "train" / name).rename(folder.parent / name)


def too_few(folder: Path) -> None:
    (folder / "val").rename(folder.parent / "val")
    for path in (folder / "train").glob("*/0[1-9].png"):
        path.unlink()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (truncated, "bee/03.jpg': corrupt, or no image (image file is truncated"),
        (text, "val/cat/notes.jpeg': corrupt, or no image (cannot identify image file the file)"),
        (script, "val/cat/x.png': corrupt, or no image"),
        (bomb, "ant/bomb.ppm': more pixels than are safe to decode; accepted: up to 89,478,485"),
        (small_bomb, "ant/bomb.ppm': more pixels than are safe to decode"),
        (empty_class, "train/dog': a class without images; accepted: files .jpg"),
        (strange_class, "val/dog': class 'dog' is missing from training; accepted: the class"),
        (strange_classes, "class 'dog' is missing from training (and 1 more)"),
        (lacking_class, "images/val': class 'bee' of train is not there; accepted: the class"),
        (no_train, "no folder '"),
        (
            without_classes,
            "images/test': no class folders; accepted: a folder with train/CLASS/*.jpg",
        ),
        (misnamed, "images': unknown folder 'validation' (accepted: test, train, val)"),
        (one_class, "images/train': only class 'ant'; accepted: at least 2"),
        (too_few, "no image is left to learn from when some are held out"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
@pytest.mark.parametrize("cached", [False, True])
def test_a_bad_folder_is_one_clear_line(
    folder: Path, tmp_path: Path, damage: object, says: str, cached: bool
) -> None:
    assert callable(damage)
    damage(folder)
    with pytest.raises(DatasetError) as error:
        load_dataset("folder", folder, 8, tmp_path / "cache" if cached else None)
    assert says in str(error.value)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("cache/*.npy")) or damage in (text, script)


def test_no_folder_or_no_size_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no folder '.*nowhere'; accepted: a folder with"):
        load_dataset("folder", tmp_path / "nowhere", 8)
    with pytest.raises(DatasetError, match="folder is not set; accepted: a folder with"):
        load_dataset("folder", None, 8)
    with pytest.raises(DatasetError, match="image_size is not set; accepted: pixels, as 224"):
        load_dataset("folder", tmp_path)


# -- trained on ----------------------------------------------------------------------------------


def flat(config: Mapping[str, Choice], *, in_channels: int, classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(in_channels * 64, classes))


def test_the_evaluator_trains_on_it(folder: Path, tmp_path: Path) -> None:
    space = SearchSpace.of("own", {"width": [1, 2]}, builder=flat)
    evaluator = TrainEvaluator(
        space, dataset="folder", folder=folder, image_size=8, cache=tmp_path / "cache", epochs=20
    )
    evaluator.prepare()
    config = space.decode("0")
    metrics = evaluator.evaluate(Evaluation(0, "0", config, seed=0), lambda step, value: False)
    assert metrics["val_accuracy"] == metrics["test_accuracy"] == 1
    identity = evaluator.identity()
    assert identity["image_size"] == 8 and identity["test"] == "half of val, held out"
    assert os.fspath(folder) not in str(identity)
    assert "image_size" not in TrainEvaluator(space).identity()


def test_a_run_file_keeps_decoded_images_beside_its_runs(folder: Path, tmp_path: Path) -> None:
    document = {
        "space": {"name": "nb201"},
        "evaluator": {
            "kind": "train", "dataset": "folder", "folder": str(folder), "image_size": 8
        },
        "run": {"folder": str(tmp_path / "runs")},
    }  # fmt: skip
    _, evaluator = from_run_file(RunFile.model_validate(document))
    assert isinstance(evaluator, TrainEvaluator)
    assert evaluator.options.cache == tmp_path / "runs" / ".images"
    for key in ("folder", "image_size"):
        lacking = {k: v for k, v in document["evaluator"].items() if k != key}
        with pytest.raises(ConfigError, match=r"needs folder = .* and image_size"):
            checked(RunFile, document | {"evaluator": lacking}, "run file")
    with pytest.raises(ConfigError, match='go with dataset = "folder" only'):
        checked(RunFile, document | {"evaluator": {"kind": "train", "cache": "x"}}, "run file")
