"""An .npz of images and labels, read strictly: no pickle, and nothing allocated on the word of a header.

Knows zip members and arrays; knows nothing of folders, encoded images or jobs.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePath
from typing import BinaryIO
from zipfile import ZipFile, ZipInfo

import numpy as np
import torch
from numpy.lib import format as npy
from numpy.typing import NDArray
from torch import Tensor

from app.errors import SamplesError
from worker.samples.archive import open_member
from worker.samples.entries import shown, too_many
from worker.samples.images import Canvas
from worker.samples.limits import MAX_IMAGES, MAX_PIXELS

SAVE = (
    "np.savez_compressed(path, images=images, labels=labels)  # images uint8 (n, h, w, c), labels int64 (n,)"
)


@dataclass(frozen=True, slots=True)
class Array:
    """One .npy member, its header checked against its size. `stream` stands at the first byte of the data."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    stream: BinaryIO


def members(archive: ZipFile) -> dict[str, ZipInfo]:
    """The arrays of an .npz by name, such as "images" and "labels"."""
    found = ((PurePath(info.filename), info) for info in archive.infolist())
    return {path.stem: info for path, info in found if path.suffix == ".npy" and len(path.parts) == 1}


def read_images(archive: ZipFile, input_shape: tuple[int, int, int]) -> Canvas:
    """The member "images", uint8 (n, h, w) or (n, h, w, c), one image in memory at a time beside the result.

    Raises `SamplesError`: missing_array, npy_invalid, wrong_dtype, wrong_shape, empty, too_many, too_large.
    """
    with _open_array(archive, "images") as array:
        if array.dtype != np.uint8:
            raise _wrong_pixels(array.dtype)
        n, height, width, channels = _image_shape(array.shape)
        canvas = Canvas(n, input_shape)
        size = height * width * channels
        for _ in range(n):
            pixels = np.frombuffer(_exactly(array.stream, size), np.uint8)
            canvas.add_pixels(pixels.reshape(height, width, channels))
    return canvas


def read_classes(archive: ZipFile, name: str, n: int, num_classes: int) -> Tensor:
    """The member `name`, integers (n,) from 0 to num_classes - 1, as int64.

    Raises `SamplesError`: missing_array, npy_invalid, wrong_dtype, wrong_shape, label_out_of_range.
    """
    with _open_array(archive, name) as array:
        if array.dtype.kind not in "iu":
            raise SamplesError(
                f"'{name}' is {shown(str(array.dtype))}; whole numbers are needed.",
                code="samples.wrong_dtype",
                remedy=f"{name} = {name}.astype(np.int64); then {SAVE}",
            )
        if array.shape != (n,):
            raise SamplesError(
                f"'{name}' has the shape {shown(str(array.shape))}; {n} images need ({n},).",
                code="samples.wrong_shape",
                remedy=f"Give one class per image; one-hot rows become so by {name}.argmax(1).",
            )
        values: NDArray[np.integer] = np.frombuffer(
            _exactly(array.stream, n * array.dtype.itemsize), array.dtype
        )
    _check_range(values, name, num_classes)
    return torch.from_numpy(values.astype(np.int64))


@contextmanager
def _open_array(archive: ZipFile, name: str) -> Iterator[Array]:
    found = members(archive)
    if name not in found:
        there = ", ".join(shown(other) for other in sorted(found)[:5]) or "no array"
        raise SamplesError(
            f"The archive has no array '{name}'; it holds {there}.", code="samples.missing_array", remedy=SAVE
        )
    info = found[name]
    with open_member(archive, info) as stream:
        yield _parse(name, info.file_size, stream)


def _parse(name: str, size: int, stream: BinaryIO) -> Array:
    """The header, believed only if the bytes behind it are exactly as many as it claims."""
    try:
        shape, fortran_order, dtype = _header(stream)
    except Exception as error:  # the header is parsed as a Python literal, which fails in many ways
        raise _invalid(name, "has no readable header") from error
    if dtype.kind not in "biufc":
        raise SamplesError(
            f"'{name}' holds {shown(str(dtype))}, not numbers.",
            code="samples.wrong_dtype",
            remedy=f"Give a plain array of numbers; objects are never unpickled. {SAVE}",
        )
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != size - stream.tell():
        raise _invalid(name, "is not as long as its header says")
    if fortran_order:
        raise _invalid(name, f"is in Fortran order; save np.ascontiguousarray({name})")
    return Array(name, shape, dtype, stream)


def _header(stream: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    if npy.read_magic(stream) != (1, 0):
        raise ValueError("a later version, which numpy writes for structured arrays only")
    return npy.read_array_header_1_0(stream)


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) != size:  # the archive lied about the size of the member
        raise EOFError
    return data


def _image_shape(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """(n, h, w, c) of images that can be used."""
    if len(shape) == 3:
        shape = (*shape, 1)
    if len(shape) != 4 or shape[3] not in {1, 3, 4}:
        channels_first = len(shape) == 4 and shape[1] in {1, 3, 4}
        raise SamplesError(
            f"'images' has the shape {shown(str(shape))}; (n, h, w), or (n, h, w, c) with c of 1, 3 or 4, is needed.",
            code="samples.wrong_shape",
            remedy=f"images = images.transpose(0, 2, 3, 1); then {SAVE}" if channels_first else SAVE,
        )
    n, height, width, channels = shape
    if n > MAX_IMAGES:
        raise too_many(MAX_IMAGES, "images")
    if n * height * width == 0:
        raise SamplesError("There are no images.", code="samples.empty", remedy=SAVE)
    if height * width > MAX_PIXELS:
        raise SamplesError(
            f"The images have more than {MAX_PIXELS} pixels each.",
            code="samples.image_too_many_pixels",
            remedy="Shrink the images to the size that the model takes.",
        )
    return n, height, width, channels


def _check_range(values: NDArray[np.integer], name: str, num_classes: int) -> None:
    """Here and not on a GPU, where a label out of range breaks every later call of the process."""
    wrong = np.flatnonzero((values < 0) | (values >= num_classes))
    if len(wrong):
        raise SamplesError(
            f"{name}[{wrong[0]}] is {values[wrong[0]]}; the model has {num_classes} classes, 0 to {num_classes - 1}.",
            code="samples.label_out_of_range",
            remedy="Number the classes as the model's outputs are, from 0; or check that this is the right model.",
        )


def _wrong_pixels(dtype: np.dtype[np.generic]) -> SamplesError:
    mend = {
        "f": "(images * 255).round().astype(np.uint8)  # if they lie in [0, 1]",
        "b": "images.astype(np.uint8) * 255",
    }.get(dtype.kind, "images.astype(np.uint8)  # if they lie in 0 to 255")
    return SamplesError(
        f"'images' is {shown(str(dtype))}; uint8 pixels from 0 to 255, before any normalisation, are needed.",
        code="samples.wrong_dtype",
        remedy=f"images = {mend}",
    )


def _invalid(name: str, how: str) -> SamplesError:
    return SamplesError(f"'{name}' {how}.", code="samples.npy_invalid", remedy=SAVE)
