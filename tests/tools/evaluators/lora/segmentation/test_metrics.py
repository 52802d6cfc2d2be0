from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lm_searcher.tools.evaluators.lora.segmentation.mask_scores import mask_loss
from lm_searcher.tools.evaluators.lora.segmentation.metrics import (
    confusion,
    mean_iou,
    mean_s_measure,
    s_measure,
)


@pytest.mark.parametrize(
    ("truth", "predicted", "expected"),
    [
        ([0, 0, 1, 1], [0, 1, 1, 1], (1 / 2 + 2 / 3) / 2),  # class 2 is nowhere
        ([0, 0], [0, 2], (1 / 2 + 0) / 2),  # class 2 is only predicted
        ([0, 2], [0, 0], (1 / 2 + 0) / 2),  # class 2 is only true
        ([0, 1, 255], [0, 1, 2], 1.0),  # what has no label does not count
        ([255], [1], 0.0),
    ],
)
def test_mean_iou_by_hand(truth: list[int], predicted: list[int], expected: float) -> None:
    table = confusion(np.array(truth, np.uint8), np.array(predicted), 3)
    assert mean_iou(table) == pytest.approx(expected)


def test_confusion_is_true_class_by_predicted_class() -> None:
    table = confusion(np.array([[0, 1], [1, 2]]), np.array([[0, 2], [1, 2]]), 3)
    assert table.tolist() == [[1, 0, 0], [0, 1, 1], [0, 0, 1]]


def test_s_measure_by_hand() -> None:
    mask = np.array([[True, True, False, False]])
    found = np.array([[1, 0.5, 0.5, 0]])
    # Foreground and background alike: mean 3/4, standard deviation 1/sqrt(8).
    objects = 1.5 / (0.75**2 + 1 + 1 / math.sqrt(8))
    # The centre is column 0 (half rounds to even), so the parts are one pixel, with nothing to
    # differ in, and three: means 1/3 and 1/3, variances 1/12 and 1/3, covariance 1/12.
    similarity = (4 / 9 * 1 / 12) / (2 / 9 * (1 / 12 + 1 / 3))
    regions = 1 / 4 * 1 + 3 / 4 * similarity
    assert similarity == pytest.approx(0.4)
    assert s_measure(found, mask) == pytest.approx((objects + regions) / 2)


def test_s_measure_of_one_pixel_by_hand() -> None:
    mask = np.array([[True, False], [False, False]])
    found = np.array([[0.5, 0], [0, 0]])
    objects = 1 / 4 * (2 * 0.5 / (0.5**2 + 1)) + 3 / 4 * 1
    assert s_measure(found, mask) == pytest.approx((objects + 1) / 2)


def test_s_measure_at_its_ends() -> None:
    mask = np.zeros((6, 8), bool)
    mask[1:4, 2:5] = True
    assert s_measure(mask.astype(float), mask) == pytest.approx(1)
    assert s_measure(np.zeros((6, 8)), mask) < 0.5
    empty = np.zeros((4, 4), bool)
    assert s_measure(np.full((4, 4), 0.25), empty) == pytest.approx(0.75)
    assert s_measure(np.full((4, 4), 0.25), ~empty) == pytest.approx(0.25)


def test_mean_s_measure_is_over_images() -> None:
    masks = np.stack([np.zeros((4, 4), bool), np.ones((4, 4), bool)])
    assert mean_s_measure(np.full((2, 4, 4), 0.3), masks) == pytest.approx((0.7 + 0.3) / 2)


def test_the_loss_by_hand() -> None:
    scores = torch.zeros(1, 2, 2, 2)
    masks = torch.tensor([[[1, 1], [0, 0]]])
    dice = 1 - (2 * 1 + 1) / (2 + 2 + 1)
    assert float(mask_loss(scores, masks)) == pytest.approx(math.log(2) + dice)
    assert float(mask_loss(torch.zeros(1, 3, 2, 2), masks)) == pytest.approx(math.log(3))


def test_pixels_without_label_teach_nothing() -> None:
    scores = torch.randn(1, 2, 2, 2, generator=torch.Generator().manual_seed(0)).requires_grad_()
    mask_loss(scores, torch.tensor([[[255, 1], [0, 255]]])).backward()
    assert scores.grad is not None
    assert (scores.grad[0, :, [0, 1], [0, 1]] == 0).all()
    assert (scores.grad[0, :, [0, 1], [1, 0]] != 0).all()
    assert float(mask_loss(scores, torch.full((1, 2, 2), 255)).detach()) == 0
