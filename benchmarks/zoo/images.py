"""Labelled images in ImageFolder layout (`airplane/0000.jpg`, …), from a folder or a zip."""

import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

PICTURES = frozenset({".bmp", ".jpeg", ".jpg", ".png"})
PORTION = 1000  # images that are floating point at once


@dataclass(frozen=True, slots=True)
class Images:
    """Pixels (n, 3, h, w) uint8, labels (n,) int64, and the class names that the labels count."""

    pixels: Tensor
    labels: Tensor
    classes: tuple[str, ...]

    def to(self, device: torch.device) -> "Images":
        """The same there."""
        return Images(self.pixels.to(device), self.labels.to(device), self.classes)

    def resized(self, side: int | None) -> "Images":
        """As squares of that many pixels a side (bilinear, antialiased); None: as they are."""
        if side is None or self.pixels.shape[-2:] == (side, side):
            return self
        portions = (_resize(portion, side) for portion in self.pixels.split(PORTION))
        return Images(torch.cat(list(portions)), self.labels, self.classes)


def read(path: Path) -> Images:
    """Every picture below one folder for each class, in the order of its name; all of one size.

    Raises `ValueError` where there is none, or where the sizes differ.
    """
    found = dict(_members(path))
    names = sorted(found)
    if not names:
        raise ValueError(f"{path} holds no pictures ({', '.join(sorted(PICTURES))})")
    classes = tuple(sorted({PurePosixPath(name).parent.name for name in names}))
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(found[name])).convert("RGB")) for name in names])
    labels = [classes.index(PurePosixPath(name).parent.name) for name in names]
    return Images(torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), torch.tensor(labels), classes)


def _resize(pixels: Tensor, side: int) -> Tensor:
    larger = F.interpolate(pixels.float(), (side, side), mode="bilinear", antialias=True)
    return larger.round().clamp(0, 255).to(torch.uint8)


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each picture."""
    if path.is_dir():
        for file in path.rglob("*"):
            if file.suffix.lower() in PICTURES:
                yield file.relative_to(path).as_posix(), file.read_bytes()
        return
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if PurePosixPath(name).suffix.lower() in PICTURES:
                yield name, archive.read(name)
