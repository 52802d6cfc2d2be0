"""Scores of predicted masks: mean IoU and S-measure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lm_searcher.tools.evaluators.lora.segmentation.labelled_images import UNLABELLED

_EPSILON = float(np.spacing(1.0))


def confusion(
    truth: NDArray[np.integer], predicted: NDArray[np.integer], classes: int
) -> NDArray[np.int64]:
    """Pixels by true class (rows) and predicted class (columns), shape [classes, classes].

    `truth` and `predicted` have the same shape; pixels that are UNLABELLED are left out.
    """
    known = truth != UNLABELLED
    pairs = truth[known].astype(np.int64) * classes + predicted[known]
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def mean_iou(table: NDArray[np.int64]) -> float:
    """The mean over classes of intersection over union, of a table of `confusion`.

    A class that is neither in the truth nor predicted has no IoU and is left out; a class that is
    only in one of them counts 0. Without any pixel the mean is 0.
    """
    shared = np.diagonal(table)
    union = table.sum(0) + table.sum(1) - shared
    present = union > 0
    return float((shared[present] / union[present]).mean()) if present.any() else 0.0


def s_measure(prediction: NDArray[np.floating], mask: NDArray[np.bool_]) -> float:
    """The structure measure of one foreground map, in [0, 1] (Fan et al., ICCV 2017, alpha 0.5).

    `prediction` [height, width] is the probability of the foreground, `mask` the truth. The
    measure is the mean of the object similarity and of the region similarity, which compares the
    four parts around the mask's centre. Constants are those of the authors' MATLAB code; its
    rescaling of each map to [0, 1] is left out, because a probability has that range already.
    """
    found: NDArray[np.float64] = prediction.astype(np.float64)
    share = float(mask.mean())
    if share == 0:
        return 1 - float(found.mean())
    if share == 1:
        return float(found.mean())
    objects = share * _object(found[mask]) + (1 - share) * _object(1 - found[~mask])
    return max(0.0, 0.5 * objects + 0.5 * _regions(found, mask))


def mean_s_measure(predictions: NDArray[np.floating], masks: NDArray[np.bool_]) -> float:
    """The mean of `s_measure` over images, both of shape [n, height, width]."""
    return float(np.mean([s_measure(p, m) for p, m in zip(predictions, masks, strict=True)]))


def _object(values: NDArray[np.float64]) -> float:
    """The object similarity: high if the values are near 1 and vary little."""
    mean = float(values.mean())
    spread = float(values.std(ddof=1)) if values.size > 1 else 0.0
    return 2 * mean / (mean**2 + 1 + spread + _EPSILON)


def _regions(prediction: NDArray[np.float64], mask: NDArray[np.bool_]) -> float:
    """The mean similarity of the four parts around the mask's centre, weighted by area.

    The row and column of the centre belong to the parts above and left of it.
    """
    row, column = (1 + int(np.round(places.mean())) for places in np.nonzero(mask))
    total = 0.0
    for rows in (slice(None, row), slice(row, None)):
        for columns in (slice(None, column), slice(column, None)):
            part, truth = prediction[rows, columns], mask[rows, columns]
            if part.size:
                total += part.size / prediction.size * _similarity(part, truth.astype(np.float64))
    return total


def _similarity(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """The structural similarity (SSIM) of two parts of equal shape; 1 if they are equal."""
    mean_x, mean_y = float(x.mean()), float(y.mean())
    count = x.size - 1 + _EPSILON
    spread = float(((x - mean_x) ** 2).sum() + ((y - mean_y) ** 2).sum()) / count
    together = 4 * mean_x * mean_y * float(((x - mean_x) * (y - mean_y)).sum()) / count
    whole = (mean_x**2 + mean_y**2) * spread
    if together:
        return together / (whole + _EPSILON)
    return 1.0 if whole == 0 else 0.0
