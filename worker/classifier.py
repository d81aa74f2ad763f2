"""A classifier as the algorithms see it: uint8 images in, logits out.

The module, the normalisation of its pixels and the place where it computes travel together, so that no algorithm
guesses any of them. Knows tensors; knows nothing of files, jobs or HTTP.
"""

import math
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from worker.device import Placement
from worker.samples.interface import SampleSet

EVAL_BATCH = 256
PIXELS_AT_ONCE = 2**20  # of one forward pass, so that large images do not fill the memory
# Down and right, in pixels of a 32-pixel image, and whether mirrored: inside what augmentation shows in training.
VIEWS = ((0, 0, False), (0, 0, True), (-2, 1, False), (2, -1, True), (1, 2, True), (-1, -2, False))
MOST_LOST = (
    0.1  # accuracy on mirrored images; nets of natural images lose 0.03 at most, nets of road signs 0.5
)
CROP_PADDING = 4  # pixels, as RandomCrop(32, 4) in the official RNP code


@dataclass(frozen=True, slots=True)
class Classifier:
    """`module` on `placement.device`; `mean` and `std` (1, c, 1, 1) of pixels in [0, 1]."""

    module: nn.Module
    num_classes: int
    mean: Tensor
    std: Tensor
    placement: Placement

    def with_module(self, module: nn.Module) -> "Classifier":
        """The same pixels and place, another module."""
        return replace(self, module=module)

    def copy(self) -> nn.Module:
        """A deep copy of the module, to be changed; the suspect is evidence and stays as it is."""
        return deepcopy(self.module)

    def pixels(self, images: Tensor) -> Tensor:
        """uint8 (n, c, h, w) -> float32 in [0, 1], on the device."""
        return images.to(self.placement.device, torch.float32).div_(255)

    def standardise(self, pixels: Tensor) -> Tensor:
        """Pixels in [0, 1] -> what the module takes, in the layout of the placement."""
        return ((pixels - self.mean) / self.std).contiguous(memory_format=self.placement.memory_format)

    def normalise(self, images: Tensor) -> Tensor:
        """uint8 (n, c, h, w) -> what the module takes."""
        return self.standardise(self.pixels(images))

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """Eval mode, float32 (n, num_classes) on the CPU."""
        self.module.eval()
        parts = []
        for part in portions(images):
            with self.placement.autocast():
                parts.append(self.module(self.normalise(part)).float())
        return torch.cat(parts).cpu()  # the only wait for the device

    def predictions(self, images: Tensor) -> Tensor:
        """Predicted classes, int64 (n,), eval mode."""
        return self.logits(images).argmax(1)


def portions(images: Tensor) -> tuple[Tensor, ...]:
    """Parts that fit into one forward pass, (n, c, h, w) each."""
    at_once = PIXELS_AT_ONCE // math.prod(images.shape[2:])
    return tuple(images.split(max(1, min(EVAL_BATCH, at_once))))


def batches(
    samples: SampleSet, size: int, draw: torch.Generator, *, augment: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """One shuffled pass: uint8 (b, c, h, w) and int64 (b,). The last batch may be smaller, or larger by one image.

    One image alone has no statistics that BatchNorm could follow after the last pooling.
    """
    parts = list(torch.randperm(len(samples), generator=draw).split(size))
    if len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [torch.cat(parts[-2:])]
    for index in parts:
        images = samples.images[index]
        shown = crop_and_mirror(images, draw, mirrors=samples.mirrors) if augment else images
        yield shown, samples.labels[index]


def crop_and_mirror(images: Tensor, draw: torch.Generator, *, mirrors: bool = True) -> Tensor:
    """RandomCrop(size, padding=4) with black borders and a mirror with probability ½, one draw per image.

    Without mirrors as many numbers are drawn.
    """
    n, _, height, width = images.shape
    padded = F.pad(images, (CROP_PADDING,) * 4)
    rows = torch.randint(2 * CROP_PADDING + 1, (n, 1), generator=draw) + torch.arange(height)
    cols = torch.randint(2 * CROP_PADDING + 1, (n, 1), generator=draw) + torch.arange(width)
    mirrored = torch.rand(n, 1, generator=draw) < 0.5
    cols = torch.where(mirrored, cols.flip(1), cols) if mirrors else cols
    return padded[torch.arange(n)[:, None, None], :, rows[:, :, None], cols[:, None, :]].permute(0, 3, 1, 2)


def knows_mirrors(classifier: Classifier, samples: SampleSet) -> bool:
    """Whether it gets mirrored images right as well: then they may be shown, to train it and to see what it lost.

    Where it does not, what it says of them is no knowledge, and a repair that changes it loses nothing.
    """
    right, mirrored = (
        (classifier.predictions(images) == samples.labels).double().mean().item()
        for images in (samples.images, samples.images.flip(3))
    )
    return mirrored >= right - MOST_LOST


def views(samples: SampleSet) -> Iterator[Tensor]:
    """The images, and the same ones shifted by a sixteenth of their size or less, half of them mirrored.

    Where a mirrored image does not show the same class, those are left out.

    What a model gets right on several views of an image varies less than on one, so changes show on fewer images.
    """
    images = samples.images
    step = images.shape[-1] / 32  # pixels of a 32-pixel image
    for down, right, mirrored in VIEWS:
        if mirrored and not samples.mirrors:
            continue
        moved = _shifted(images, round(down * step), round(right * step))
        yield moved.flip(3) if mirrored else moved


def _shifted(images: Tensor, down: int, right: int) -> Tensor:
    """With black where nothing was."""
    height, width = images.shape[2:]
    room = max(abs(down), abs(right))
    padded = F.pad(images, (room,) * 4)
    return padded[:, :, room - down : room - down + height, room - right : room - right + width]


def set_mode(module: nn.Module, *, batch_statistics: bool, dropout: bool) -> None:
    """Eval mode but for BatchNorm, which may follow the batch, and dropout, which may stay on."""
    module.eval()
    for part in module.modules():
        if isinstance(part, _BatchNorm):
            part.train(batch_statistics)
        elif isinstance(part, _DropoutNd):
            part.train(dropout)


def label_shares(predictions: Tensor, num_classes: int) -> tuple[float, ...]:
    """Share of predictions per class."""
    return tuple((torch.bincount(predictions, minlength=num_classes) / max(len(predictions), 1)).tolist())
