from __future__ import annotations

import numpy as np
import pytest

from lm_searcher.tools.evaluators.lora.segmentation.scenes import CLASSES, SIDE, scene_data, scenes


def test_ink_is_what_is_labelled() -> None:
    plain = scenes("train", 40, shifted=False)
    assert plain.images.shape == (40, 1, SIDE, SIDE) and plain.images.dtype == np.uint8
    assert set(np.unique(plain.masks)) == set(range(CLASSES))
    ink = plain.images[:, 0]
    assert ink[plain.masks > 0].min() >= round(255 * 0.35) >= ink[plain.masks == 0].max()


def test_no_digit_covers_another() -> None:
    masks = scenes("valid", 40, shifted=True).masks
    half = SIDE // 2
    for rows in (slice(half), slice(half, None)):
        for columns in (slice(half), slice(half, None)):
            for quarter in masks[:, rows, columns]:
                assert len(np.unique(quarter)) <= 2


def test_the_same_scenes_each_time_and_others_in_each_split() -> None:
    data, again = (scene_data(12, 12, shifted=True) for _ in range(2))
    for part in ("train", "valid", "test"):
        assert (getattr(data, part).images == getattr(again, part).images).all()
    assert (data.train.masks != data.valid.masks).any()
    assert (data.valid.masks != data.test.masks).any()


@pytest.mark.parametrize("shifted", [False, True])
def test_the_shifted_ones_are_dark_on_light(shifted: bool) -> None:
    found = scenes("test", 20, shifted=shifted)
    ink, ground = (found.images[:, 0][part].mean() for part in (found.masks > 0, found.masks == 0))
    assert (ink < ground) == shifted
