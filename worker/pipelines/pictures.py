"""Small pictures for the report, as base64 PNG: what a perturbation looks like, alone and on clean images."""

import base64
import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from worker.detectors.perturbation import Bend, Blend, Form, Perturbation
from worker.samples.interface import SampleSet

STAMPED = 3  # examples
SHEET = 8  # images a row, and rows
SIDE = 128  # pixels of one of them, at most
GREY = 0.5
MESHES = 8  # of the grid that shows a warp, along a side


def pictures(perturbation: Perturbation, clean: SampleSet) -> tuple[str, ...]:
    """The perturbation, then clean images of other classes with it; none where images are neither RGB nor grey."""
    if clean.images.shape[1] not in (1, 3):
        return ()
    others = clean.images[clean.labels != perturbation.target_class][:STAMPED]
    stamped = perturbation.stamp(others)
    return tuple(png(image) for image in (_alone(perturbation), *_small(stamped)))


def contact_sheet(images: Tensor) -> bytes:
    """The first images of uint8 (n, c, h, w), row by row, as one PNG; b"" where they are neither RGB nor grey."""
    if images.shape[1] not in (1, 3):
        return b""
    shown = _small(images[: SHEET**2])
    rows = -(-len(shown) // SHEET)
    height, width = shown.shape[2:]
    sheet = torch.full((shown.shape[1], rows * (height + 1), SHEET * (width + 1)), 255, dtype=torch.uint8)
    for place, image in enumerate(shown):
        top, left = place // SHEET * (height + 1), place % SHEET * (width + 1)
        sheet[:, top : top + height, left : left + width] = image
    return _png(sheet)


def _small(images: Tensor) -> Tensor:
    """uint8 (n, c, h, w), no side longer than `SIDE`."""
    return _shrunk(images.float()).round().byte()


def _shrunk(images: Tensor) -> Tensor:
    """Float (n, c, h, w), shrunk where a side is longer than `SIDE`, so that a sheet or a report can hold them."""
    height, width = images.shape[2:]
    longest = max(height, width)
    if longest <= SIDE:
        return images
    size = [max(1, side * SIDE // longest) for side in (height, width)]
    return F.interpolate(images, size, mode="area")


def png(image: Tensor) -> str:
    """uint8 (c, h, w) with one or three channels -> base64."""
    return base64.b64encode(_png(image)).decode("ascii")


def lossless(image: Tensor) -> bytes:
    """uint8 (c, h, w) with one or three channels -> PNG with as many."""
    pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
    buffer = io.BytesIO()
    Image.fromarray(pixels.squeeze(2) if len(image) == 1 else pixels).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _png(image: Tensor) -> bytes:
    return lossless(image.expand(3, -1, -1))


def _alone(perturbation: Perturbation) -> Tensor:
    """A patch over mid grey; a dense one around mid grey, stretched until its largest value shows; a bent grid."""
    match perturbation.change:
        case Blend(keep, add) if perturbation.form is Form.PATCH:
            shown = _shrunk(keep * GREY + add)
        case Blend(_, add):
            small = _shrunk(add)  # before it is stretched: shrinking makes noise weaker
            shown = GREY + GREY * small / small.abs().max().clamp(min=1e-12)
        case Bend() as bend:
            shown = _shrunk(bend(_grid(*bend.flow.shape[2:]))[0])
        case _:
            raise TypeError(perturbation.change)
    return shown[0].mul(255).round().clamp(0, 255).byte()


def _grid(height: int, width: int) -> Tensor:
    """Dark lines on light ground, (1, 1, h, w); so thick that they are still dark when they are shrunk."""
    step, thick = max(2, width // MESHES), -(-max(height, width) // SIDE)
    down, right = (torch.arange(side) % step < thick for side in (height, width))
    return (down[:, None] | right).logical_not().float()[None, None]
