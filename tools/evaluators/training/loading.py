"""The data of a training, loaded once a process.

The cache belongs to the process and not to the evaluator, which is pickled to worker processes
and must stay small.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from lm_searcher.tools.data.datasets import load_dataset
from lm_searcher.tools.data.image_dataset import Dataset, share
from lm_searcher.tools.data.texts import Text, load_text


@cache
def images(
    name: str,
    folder: str | Path | None,
    image_size: int | None,
    cache: str | Path | None,
    fraction: float,
) -> Dataset:
    """The data set with `fraction` of its training images. Raises DatasetError."""
    if fraction == 1:
        return load_dataset(name, folder, image_size, cache)
    return share(images(name, folder, image_size, cache, 1), fraction)


@cache
def text(name: str, folder: str | Path | None, context: int) -> Text:
    """See `load_text`. Raises DatasetError."""
    return load_text(name, folder, context)


def image_identity(folder: str | Path, image_size: int | None) -> dict[str, Any]:
    """What the values depend on where the images are the user's own folder."""
    from lm_searcher.tools.data.image_folder import sources  # imports Pillow

    return {"image_size": image_size, **sources(Path(folder))}
