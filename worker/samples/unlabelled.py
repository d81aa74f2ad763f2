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
    shown_some,
    too_many,
)
from worker.samples.images import Canvas, begins_as_image, decode, quiet_decoders
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


@dataclass(frozen=True, slots=True)
class _Found:
    """What was read, and the names of the files that were not."""

    canvas: Canvas
    names: tuple[str, ...]
    digest: str
    skipped: tuple[str, ...]


def read_images(path: Path, input_shape: tuple[int, int, int]) -> tuple[ImageSet, tuple[Problem, ...]]:
    """The images at `path` in the shape of the model's input, sorted by path, and warnings.

    Warnings: `samples.resized`, `samples.made_grey`, `samples.skipped`. Raises `SamplesError` as `read_samples` does,
    but for classes.
    """
    with readable(path, ACCEPTED):
        found = _read(path, input_shape)
    images = ImageSet(found.canvas.images(), found.names, path.absolute().name, found.digest)
    return images, (*found.canvas.warnings(), *_not_looked_at(found.skipped))


def _read(path: Path, input_shape: tuple[int, int, int]) -> _Found:
    if path.is_dir():
        pictures, others = _divided(folder_entries(path))
        return _Found(*_decoded(pictures, input_shape), entries_digest(pictures), others)
    with open_archive(path, ACCEPTED) as archive:
        held = arrays.members(archive)
        if path.suffix == ".npz" or "images" in held:
            canvas = arrays.read_images(archive, input_shape)
            known = {member.name for member in held.values()}
            others = tuple(entry.name for entry in archive_entries(archive) if entry.name not in known)
            return _Found(canvas, tuple(map(str, range(len(canvas.images())))), file_digest(path), others)
        pictures, others = _divided(archive_entries(archive))
        return _Found(*_decoded(pictures, input_shape), file_digest(path), others)


def _divided(entries: Sequence[Entry]) -> tuple[tuple[Entry, ...], tuple[str, ...]]:
    """The pictures, and the names of what is none."""
    pictures, others = list[Entry](), list[str]()
    for entry in entries:
        if _is_picture(entry):
            pictures.append(entry)
        else:
            others.append(entry.name)
    if not pictures:
        raise SamplesError("There are no images.", code="samples.empty", remedy=ACCEPTED)
    if len(pictures) > input_limits().samples.images:
        raise too_many(input_limits().samples.images, "images")
    return tuple(pictures), tuple(others)


def _is_picture(entry: Entry) -> bool:
    """By its name or, where that says nothing, by its first bytes: a screening must not be led past an image."""
    if entry.name.lower().endswith(IMAGE_SUFFIXES):
        return True
    try:
        return begins_as_image(entry.read())
    except SamplesError:  # too large, or an archive
        return False


def _decoded(pictures: Sequence[Entry], input_shape: tuple[int, int, int]) -> tuple[Canvas, tuple[str, ...]]:
    canvas = Canvas(len(pictures), input_shape)
    with quiet_decoders():
        for entry in pictures:
            canvas.add(decode(entry.read(), entry.name))
    return canvas, tuple(entry.name for entry in pictures)


def _not_looked_at(names: Sequence[str]) -> tuple[Problem, ...]:
    if not names:
        return ()
    return (
        Problem(
            code="samples.skipped",
            detail=f"Files that were not looked at: {len(names)} ({shown_some(names)}). None of them is an image in "
            "PNG, JPEG, BMP or WebP that can be read.",
            remedy="Convert those that are images, and unpack archives: nothing is known of what was left out.",
        ),
    )
