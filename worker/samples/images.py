"""Encoded images to pixels, and pixels to the shape of the model's input.

Pixels become what torchvision's default loader would give, since that is what most classifiers were trained on:
`convert("RGB")`, so alpha is dropped rather than composited, and EXIF orientation is not applied.
Knows images and arrays; knows nothing of archives, classes or jobs.
"""

import re
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

import numpy as np
import torch
from numpy.typing import NDArray

# Named one by one: a format that is not registered would make Pillow import all of its fifty plugins.
from PIL import (
    BmpImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)
from torch import Tensor

from app.contract.limits import input_limits
from app.contract.problem import Problem
from app.errors import SamplesError
from worker.samples.entries import shown

# Everything else stays closed: Pillow sniffs content, and a PostScript file named .png would start Ghostscript.
FORMATS = tuple(
    plugin.format
    for plugin in (
        PngImagePlugin.PngImageFile,
        JpegImagePlugin.JpegImageFile,
        BmpImagePlugin.BmpImageFile,
        WebPImagePlugin.WebPImageFile,
    )
)
_BEGINNING = re.compile(rb"\x89PNG\r\n\x1a\n|\xff\xd8\xff|BM|RIFF.{4}WEBP", re.DOTALL)  # of each of these
MODES = {1: "L", 3: "RGB"}
GREY_MODES = frozenset({"1", "L", "LA", "I", "I;16"})
SIZES_SHOWN = 3  # in the warning about resized images


class Canvas:
    """The model's input, filled image by image: uint8 (n, c, h, w).

    Raises `SamplesError`: channels_unsupported, too_large.
    """

    def __init__(self, n: int, input_shape: tuple[int, int, int]) -> None:
        self._channels, self._height, self._width = input_shape
        if self._channels not in MODES:
            raise SamplesError(
                f"The model takes {self._channels} channels; images of 1 or 3 channels can be read.",
                code="samples.channels_unsupported",
                remedy="Use a model of grey or colour images.",
            )
        most = input_limits().samples.tensor_bytes
        if n * self._channels * self._height * self._width > most:
            raise SamplesError(
                f"{n} images of {self._height}×{self._width} take more than {most >> 30} GiB.",
                code="samples.too_large",
                remedy="Give fewer images; a few hundred are enough.",
            )
        self._pixels = np.empty((n, *input_shape), np.uint8)
        self._filled = 0
        self._resized: Counter[tuple[int, int]] = Counter()
        self._made_grey = 0

    def add(self, image: Image.Image) -> None:
        """The next image: its colours converted, resized (bilinear, antialiased, aspect not kept) if it must be."""
        if self._channels == 1 and image.mode not in GREY_MODES:
            self._made_grey += 1
        image = _converted(image, MODES[self._channels])
        if image.size != (self._width, self._height):
            self._resized[image.size] += 1
            image = image.resize((self._width, self._height), Image.Resampling.BILINEAR)
        pixels = np.asarray(image).reshape(self._height, self._width, self._channels)
        self._pixels[self._filled] = pixels.transpose(2, 0, 1)
        self._filled += 1

    def add_pixels(self, pixels: NDArray[np.uint8]) -> None:
        """The next image as (h, w, c), c of 1, 3 or 4."""
        if pixels.shape == (self._height, self._width, self._channels):
            self._pixels[self._filled] = pixels.transpose(2, 0, 1)
            self._filled += 1
        else:
            self.add(Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels))

    def images(self) -> Tensor:
        """All images, uint8 (n, c, h, w)."""
        return torch.from_numpy(self._pixels)

    def warnings(self) -> tuple[Problem, ...]:
        """What was done to images that did not fit."""
        found = []
        if self._resized:
            found.append(self._resized_problem())
        if self._made_grey:
            found.append(
                Problem(
                    code="samples.made_grey",
                    detail=f"{self._made_grey} of {self._filled} images lost their colours: the model takes grey.",
                    remedy="Check that the model was trained on grey images made the same way (ITU-R 601 luma).",
                )
            )
        return tuple(found)

    def _resized_problem(self) -> Problem:
        common = self._resized.most_common(SIZES_SHOWN)
        sizes = ", ".join(f"{count} of {width}×{height}" for (width, height), count in common)
        others = len(self._resized) - len(common)
        more = f", and {others} other sizes" if others else ""
        return Problem(
            code="samples.resized",
            detail=(
                f"{self._resized.total()} of {self._filled} images were resized to "
                f"{self._width}×{self._height} (width×height): {sizes}{more}."
            ),
            remedy="Give images exactly as the model gets them in production, if that crops or resizes otherwise.",
        )


@contextmanager
def quiet_decoders() -> Iterator[None]:
    """Pillow's remarks about odd metadata are dropped; its alarm about decompression bombs is raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def begins_as_image(data: bytes) -> bool:
    """Whether `decode` would take it for an image, whole or damaged."""
    return _BEGINNING.match(data) is not None


def decode(data: bytes, name: str) -> Image.Image:
    """The image in `data`, decoded.

    Raises `SamplesError`: bad_image, image_too_many_pixels, image_animated; each names the file.
    """
    try:
        image = Image.open(BytesIO(data), formats=FORMATS)
        _check_header(image, name)
        image.load()
    except SamplesError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_many_pixels(name) from error
    except UnidentifiedImageError as error:
        raise _bad(f"{shown(name)} is not a PNG, JPEG, BMP or WebP image.") from error
    except (
        Exception
    ) as error:  # decoders raise whatever the bytes provoke: SyntaxError, struct.error, ValueError…
        raise _bad(f"{shown(name)} is damaged and cannot be decoded.") from error
    return image


def _check_header(image: Image.Image, name: str) -> None:
    """What the header claims, before any pixel is decoded."""
    if image.width * image.height > input_limits().samples.pixels:
        raise _too_many_pixels(name)
    # Many telephones write JPEG with a second picture behind the first (MPO); the first is the photograph.
    if image.format != "MPO" and getattr(image, "is_animated", False):
        raise SamplesError(
            f"{shown(name)} is animated.",
            code="samples.image_animated",
            remedy="Save the one frame that the model should see.",
        )


def _converted(image: Image.Image, mode: str) -> Image.Image:
    """`image` in grey or RGB; Pillow's own conversion of 16-bit grey clips at 255 where the high byte is meant."""
    if image.mode in {"I", "I;16"}:
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image if image.mode == mode else image.convert(mode)


def _bad(detail: str) -> SamplesError:
    return SamplesError(detail, code="samples.bad_image", remedy="Replace the file or leave it out.")


def _too_many_pixels(name: str) -> SamplesError:
    return SamplesError(
        f"{shown(name)} has more than {input_limits().samples.pixels} pixels.",
        code="samples.image_too_many_pixels",
        remedy="Shrink the image to the size that the model takes.",
    )
