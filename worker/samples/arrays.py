"""An .npz of images and labels, read strictly: no pickle, and nothing allocated on the word of a header.

Knows zip members and arrays; knows nothing of folders, encoded images or jobs.
"""

import math
import re
import struct
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from app.contract.limits import input_limits
from app.errors import SamplesError
from worker.samples.archive import Opened, stream
from worker.samples.entries import shown, too_many
from worker.samples.images import Canvas
from worker.zips.content import Content
from worker.zips.interface import Member

SAVE = (
    "np.savez_compressed(path, images=images, labels=labels)  # images uint8 (n, h, w, c), labels int64 (n,)"
)

_START = struct.Struct("<6sHH")  # magic, version 1.0, length of the header
_HEADER = re.compile(
    rb"\{'descr': '([ -&(-\[\]-~]{1,40})', 'fortran_order': (True|False), "
    rb"'shape': \(([0-9]{0,12}(?:, ?[0-9]{1,12}){0,7},?)\), *\} *\n"
)
_NUMBERS = re.compile(r"[|<>=]?([iu][1248]|f[248]|b1|c8|c16)")


@dataclass(frozen=True, slots=True)
class Array:
    """One .npy member, its header checked against its size. `stream` stands at the first byte of the data."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    stream: Content


def members(archive: Opened) -> dict[str, Member]:
    """The arrays of an .npz by name, such as "images" and "labels"."""
    found = ((PurePath(member.name), member) for member in archive.members)
    return {path.stem: member for path, member in found if path.suffix == ".npy" and len(path.parts) == 1}


def read_images(archive: Opened, input_shape: tuple[int, int, int]) -> Canvas:
    """The member "images", uint8 (n, h, w) or (n, h, w, c), one image in memory at a time beside the result.

    Raises `SamplesError`: missing_array, npy_invalid, wrong_dtype, wrong_shape, empty, too_many, too_large.
    """
    array = _array(archive, "images")
    if array.dtype != np.uint8:
        raise _wrong_pixels(array.dtype)
    n, height, width, channels = _image_shape(array.shape)
    canvas = Canvas(n, input_shape)
    size = height * width * channels
    for _ in range(n):
        pixels = np.frombuffer(array.stream.read(size), np.uint8)
        canvas.add_pixels(pixels.reshape(height, width, channels))
    return canvas


def read_classes(archive: Opened, name: str, n: int, num_classes: int) -> Tensor:
    """The member `name`, integers (n,) from 0 to num_classes - 1, as int64.

    Raises `SamplesError`: missing_array, npy_invalid, wrong_dtype, wrong_shape, label_out_of_range.
    """
    array = _array(archive, name)
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
    values: NDArray[np.integer] = np.frombuffer(array.stream.read(n * array.dtype.itemsize), array.dtype)
    _check_range(values, name, num_classes)
    return torch.from_numpy(values.astype(np.int64))


def _array(archive: Opened, name: str) -> Array:
    """The header of an array, believed only if the bytes behind it are exactly as many as it claims."""
    found = members(archive)
    if name not in found:
        there = ", ".join(shown(other) for other in sorted(found)[:5]) or "no array"
        raise SamplesError(
            f"The archive has no array '{name}'; it holds {there}.", code="samples.missing_array", remedy=SAVE
        )
    data = stream(archive, found[name])
    start = data.read(_START.size)
    header = data.read(_START.unpack(start)[2]) if len(start) == _START.size else b""
    match = _HEADER.fullmatch(header)
    if _START.unpack(start.ljust(_START.size))[:2] != (b"\x93NUMPY", 1) or match is None:
        raise _invalid(name, "has no header that numpy writes for a plain array")
    kind, fortran_order, sizes = (part.decode("ascii") for part in match.groups())
    if not _NUMBERS.fullmatch(kind):
        raise SamplesError(
            f"'{name}' holds {shown(kind)}, not numbers.",
            code="samples.wrong_dtype",
            remedy=f"Give a plain array of numbers; objects are never unpickled. {SAVE}",
        )
    shape = tuple(int(size) for size in sizes.split(",") if size.strip())
    if math.prod(shape) * np.dtype(kind).itemsize != found[name].size - data.tell():
        raise _invalid(name, "is not as long as its header says")
    if fortran_order == "True":
        raise _invalid(name, f"is in Fortran order; save np.ascontiguousarray({name})")
    return Array(name, shape, np.dtype(kind), data)


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
    if n > input_limits().samples.images:
        raise too_many(input_limits().samples.images, "images")
    if n * height * width == 0:
        raise SamplesError("There are no images.", code="samples.empty", remedy=SAVE)
    if height * width > input_limits().samples.pixels:
        raise SamplesError(
            f"The images have more than {input_limits().samples.pixels} pixels each.",
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
