"""The ImageFolder layout: one folder per class, images directly inside it, at most one folder around them all.

Knows paths inside an archive; knows nothing of images, classes or tensors.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from app.errors import SamplesError
from worker.samples.classes import CLASSES_JSON
from worker.samples.entries import Entry, shown

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".webp")
LAYOUT = "Use one folder per class: cat/1.png, cat/2.png, dog/1.png; at most one folder around them all."


@dataclass(frozen=True, slots=True)
class Layout:
    """`images`: (class folder, entry), sorted by entry; `classes_json`: the list of names, if there is one."""

    images: tuple[tuple[str, Entry], ...]
    classes_json: Entry | None

    def used(self) -> tuple[Entry, ...]:
        """Every file that counts, sorted by name."""
        names = () if self.classes_json is None else (self.classes_json,)
        return tuple(sorted((*names, *(entry for _, entry in self.images)), key=lambda entry: entry.name))


def image_folder(entries: Iterable[Entry]) -> Layout:
    """Sort the files of an archive into class folders.

    Files above the class folders are left alone (a README, a licence) unless they are images.
    Raises `SamplesError`: layout, empty.
    """
    parts = [(tuple(entry.name.split("/")), entry) for entry in entries]
    root = _common_root([path for path, _ in parts if len(path) > 1])
    images, classes_json = [], None
    for path, entry in parts:
        inner = path[len(root) :] if path[: len(root)] == root else path
        if len(inner) == 2:
            images.append((inner[0], entry))
        elif len(inner) > 2:
            raise _misplaced(entry, "lies deeper than a class folder")
        elif inner[0].lower().endswith(IMAGE_SUFFIXES):
            raise _misplaced(entry, "lies in no class folder")
        elif inner[0] == CLASSES_JSON:
            classes_json = entry
    if not images:
        raise SamplesError("There are no images.", code="samples.empty", remedy=LAYOUT)
    return Layout(tuple(images), classes_json)


def _common_root(paths: list[tuple[str, ...]]) -> tuple[str, ...]:
    """The one folder around all class folders, if there is one."""
    roots = {path[0] for path in paths}
    deep = any(len(path) > 2 for path in paths)
    return (roots.pop(),) if deep and len(roots) == 1 else ()


def _misplaced(entry: Entry, how: str) -> SamplesError:
    return SamplesError(f"{shown(entry.name)} {how}.", code="samples.layout", remedy=LAYOUT)
