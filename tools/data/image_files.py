"""Image files as one array, decoded in parallel and kept in a cache."""

from __future__ import annotations

import hashlib
import os
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from lm_searcher.spaces.errors import DatasetError, one_line
from lm_searcher.tools.files import atomic_file, file_lock

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
# Pillow reads more formats, but some of them start other programs.

_AT_ONCE = 1024

# Errors of Pillow's readers for a damaged file.
_DAMAGE = (
    OSError, ValueError, SyntaxError, EOFError, TypeError, IndexError, KeyError, AttributeError,
    OverflowError, ArithmeticError, MemoryError, RuntimeError, struct.error, zlib.error,
)  # fmt: skip


def decoded(files: Sequence[Path], size: int, cache: Path | None) -> NDArray[np.uint8]:
    """The files' images in RGB, uint8 [n, 3, size, size].

    An image is turned as its camera noted, its shorter side resized to `size`, and its centre cut
    out. With a `cache` folder, which is created if need be, the array is a memory-mapped file in
    it; later calls use it as long as names, sizes and modification times of all files are the
    same. The cache may be deleted between runs. Raises DatasetError that names the first bad file.
    """
    shape = (len(files), 3, size, size)
    if cache is None:
        images = np.empty(shape, dtype=np.uint8)
        for row, image in enumerate(_decode_all(files, size)):
            images[row] = image
        return images
    try:
        cache.mkdir(parents=True, exist_ok=True)
        path = cache / f"{_key(files, size)}.npy"
        with file_lock(path.with_name(f"{path.name}.lock")):  # two workers decode once
            kept = _kept(path, shape)
            if kept is None:
                _keep(path, shape, _decode_all(files, size))
                kept = _kept(path, shape)
    except OSError as error:
        raise DatasetError(f"cache '{cache}': cannot be written ({error.strerror})") from error
    assert kept is not None
    return kept


def _decode_all(files: Sequence[Path], size: int) -> Iterator[NDArray[np.uint8]]:
    """Each image, in order. No thread is left at the end, since trials are forked afterwards."""
    with warnings.catch_warnings():
        # Of large images Pillow only warns. Decoders release the GIL, so threads suffice.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for start in range(0, len(files), _AT_ONCE):
                yield from pool.map(partial(_decode, size=size), files[start : start + _AT_ONCE])


def _decode(file: Path, size: int) -> NDArray[np.uint8]:
    try:
        with Image.open(file, formats=_FORMATS) as image:
            image.draft("RGB", (2 * size, 2 * size))  # decodes a JPEG at reduced size
            turned = ImageOps.exif_transpose(image).convert("RGB")
            fitted = ImageOps.fit(turned, (size, size), Image.Resampling.BILINEAR)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DatasetError(
            f"'{file}': more pixels than are safe to decode; "
            f"accepted: up to {Image.MAX_IMAGE_PIXELS:,} a file"
        ) from error
    except _DAMAGE as error:
        reason = one_line(error).replace(f"'{file}'", "the file")
        raise DatasetError(f"'{file}': corrupt, or no image ({reason})") from error
    return np.asarray(fitted).transpose(2, 0, 1)


def _key(files: Sequence[Path], size: int) -> str:
    digest = hashlib.sha256(f"1 {size}".encode())  # 1: the version of the decoding
    for file in files:
        stat = file.stat()
        digest.update(f"\0{file.resolve()}\0{stat.st_size}\0{stat.st_mtime_ns}".encode())
    return digest.hexdigest()[:32]


def _kept(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8] | None:
    """The array in the file; None without one, or if it has another shape or type."""
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (FileNotFoundError, ValueError, EOFError):
        return None
    sound = isinstance(found, np.memmap) and found.shape == shape and found.dtype == np.uint8
    return np.asarray(found) if sound else None


def _keep(path: Path, shape: tuple[int, ...], images: Iterator[NDArray[np.uint8]]) -> None:
    """Write the array's file as `atomic_file` does. Raises OSError."""
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    # Not a memory map: on a full disk a write fails, but a map kills the process.
    with atomic_file(path) as file:
        np.lib.format.write_array_header_1_0(file, header)
        for image in images:
            file.write(image.tobytes())
