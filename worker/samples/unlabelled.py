"""Images of which nothing is known but what they are called: a folder or zip, nested as it comes, or an .npz.

Knows files and tensors; knows nothing of jobs, HTTP or the science.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from app.contract.limits import input_limits
from app.contract.problem import Problem
from app.errors import SamplesError
from worker.samples import arrays
from worker.samples.archive import archive_entries, open_archive
from worker.samples.entries import (
    Entry,
    entries_digest,
    file_digest,
    folder_entries,
    readable,
    too_many,
)
from worker.samples.images import Canvas, decode, quiet_decoders
from worker.samples.layout import IMAGE_SUFFIXES

ACCEPTED = "Give a folder or a zip of images, or an .npz with 'images'."


@dataclass(frozen=True, slots=True)
class ImageSet:
    """`images` uint8 (n, c, h, w), each with a name: its path, or its place in an .npz."""

    images: Tensor
    names: tuple[str, ...]
    name: str = ""
    digest: str = ""

    def __len__(self) -> int:
        return len(self.names)


def read_images(path: Path, input_shape: tuple[int, int, int]) -> tuple[ImageSet, tuple[Problem, ...]]:
    """The images at `path` in the shape of the model's input, sorted by path, and warnings.

    Warnings: `samples.resized`, `samples.made_grey`. Raises `SamplesError` as `read_samples` does, but for classes.
    """
    with readable(path, ACCEPTED):
        canvas, names, digest = _read(path, input_shape)
    return ImageSet(canvas.images(), names, path.absolute().name, digest), canvas.warnings()


def _read(path: Path, input_shape: tuple[int, int, int]) -> tuple[Canvas, tuple[str, ...], str]:
    if path.is_dir():
        pictures = _pictures(folder_entries(path))
        return *_decoded(pictures, input_shape), entries_digest(pictures)
    with open_archive(path, ACCEPTED) as archive:
        if path.suffix == ".npz" or "images" in arrays.members(archive):
            canvas = arrays.read_images(archive, input_shape)
            return canvas, tuple(map(str, range(len(canvas.images())))), file_digest(path)
        return *_decoded(_pictures(archive_entries(archive)), input_shape), file_digest(path)


def _pictures(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    found = tuple(entry for entry in entries if entry.name.lower().endswith(IMAGE_SUFFIXES))
    if not found:
        raise SamplesError("There are no images.", code="samples.empty", remedy=ACCEPTED)
    if len(found) > input_limits().samples.images:
        raise too_many(input_limits().samples.images, "images")
    return found


def _decoded(pictures: Sequence[Entry], input_shape: tuple[int, int, int]) -> tuple[Canvas, tuple[str, ...]]:
    canvas = Canvas(len(pictures), input_shape)
    with quiet_decoders():
        for entry in pictures:
            canvas.add(decode(entry.read(), entry.name))
    return canvas, tuple(entry.name for entry in pictures)
