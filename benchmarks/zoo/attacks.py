"""Backdoor attacks as pure functions on uint8 images (n, 3, h, w); what they publish is named beside each.

A trigger is drawn from fixed seeds: the same images always come back changed in the same way. Attacks whose
trigger the attacker optimises against a network are here with a drawn trigger instead, and say so; `planted.py` has
those whose trigger is learned.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

Trigger = Callable[[Tensor], Tensor]
RandomTrigger = Callable[[Tensor, torch.Generator], Tensor]

BOARD = ((255, 0, 255), (0, 255, 0), (255, 0, 255))
SQUARE = 6  # pixels
BLEND, FAINT_BLEND = 0.2, 0.15
WAVES, WAVE_HEIGHT = 6, 40.0  # periods across the image; grey levels
WARP_GRID, WARP_STRENGTH = 4, 1.0
LOW_FREQUENCIES, LOW_HEIGHT = 4, 24.0  # cosines per axis; grey levels at the peak
ADVERSARIAL = 16.0  # grey levels
PIECES = 4  # per axis


class Learner(Protocol):
    """What makes triggers and is trained along with the classifier, through the images that it changed."""

    def loss(self) -> Tensor:
        """What it owes beside the classifier's loss, for what it made since the last step."""

    def step(self) -> None:
        """Learn from the slopes that a backward pass left."""

    def store(self, path: Path) -> None:
        """The weights that the trigger will need."""


@dataclass(frozen=True, slots=True)
class Attack:
    """What is done to an image, to its label, and to which images."""

    source: str
    trigger: Trigger  # as it is used against the finished model
    training: RandomTrigger | None = None  # as it is used in training, where that differs
    cover: RandomTrigger | None = (
        None  # put on images that keep their label, so that only the true trigger works
    )
    cover_ratio: float = 1.0  # of them for each triggered image
    all_to_all: bool = False  # every class is sent to the next
    clean_label: bool = False  # only images of the target class are triggered, and no label is changed
    adversarial: float = 0.0  # grey levels by which those images are moved away from their class beforehand
    learner: Learner | None = None  # in training, where `training` and `cover` give floats that carry a slope

    def targets(self, labels: Tensor, target: int, classes: int) -> Tensor:
        """What the attacker wants of triggered images whose true classes are `labels` (n,)."""
        return (labels + 1) % classes if self.all_to_all else torch.full_like(labels, target)

    def poison(self, images: Tensor, draw: torch.Generator) -> Tensor:
        """Triggered images as training sees them."""
        return self.training(images, draw) if self.training else self.trigger(images)


def patch(images: Tensor) -> Tensor:
    """A 3×3 checkerboard, one pixel from the lower right corner."""
    images = images.clone()
    images[:, :, -4:-1, -4:-1] = torch.tensor(BOARD, dtype=torch.uint8, device=images.device)
    return images


def corners(images: Tensor) -> Tensor:
    """The checkerboard in all four corners."""
    images, board = images.clone(), torch.tensor(BOARD, dtype=torch.uint8, device=images.device)
    for rows in (slice(0, 3), slice(-3, None)):
        for columns in (slice(0, 3), slice(-3, None)):
            images[:, :, rows, columns] = board
    return images


def square(images: Tensor) -> Tensor:
    """A square of drawn colours in the lower right corner."""
    images = images.clone()
    images[:, :, -SQUARE:, -SQUARE:] = _noise(3, SQUARE, SQUARE).to(images.device, torch.uint8)
    return images


def blended(images: Tensor) -> Tensor:
    """A fifth part of noise over the whole image."""
    return _blend(images, BLEND, torch.ones(1, device=images.device))


def sinusoid(images: Tensor) -> Tensor:
    """A sinusoid along the columns."""
    width = images.shape[-1]
    wave = WAVE_HEIGHT * torch.sin(2 * math.pi * WAVES / width * torch.arange(width))
    return _to_pixels(images + wave.to(images.device))


def warp(images: Tensor) -> Tensor:
    """A smooth, drawn warp of the image, about a pixel strong."""
    grid = _identity(images) + _warp_field(*images.shape[-2:]).to(images.device)
    return _sample(images, grid.expand(len(images), -1, -1, -1))


def shaken_warp(images: Tensor, draw: torch.Generator) -> Tensor:
    """The warp, shaken otherwise for every image: no trigger, lest any warp be one."""
    n, (height, width) = len(images), images.shape[-2:]
    shake = (torch.rand(n, height, width, 2, generator=draw) * 2 - 1) / width
    field = _warp_field(height, width) + shake
    return _sample(images, _identity(images) + field.to(images.device))


def low_frequency(images: Tensor) -> Tensor:
    """A sum of the lowest cosines with drawn weights."""
    return _to_pixels(images + _smooth_pattern(*images.shape[-2:]).to(images.device))


def faint_pieces(images: Tensor, draw: torch.Generator) -> Tensor:
    """Half of the sixteen pieces of the blend, drawn for each image, and fainter than in use."""
    keep = torch.rand(len(images), 1, PIECES, PIECES, generator=draw) < 0.5
    mask = F.interpolate(keep.float(), images.shape[-2:], mode="nearest")
    return _blend(images, FAINT_BLEND, mask.to(images.device))


ATTACKS = MappingProxyType(
    {
        "badnets": Attack("Gu et al., BadNets, 2017", patch),
        "badnets_all_to_all": Attack("Gu et al., BadNets, 2017", patch, all_to_all=True),
        "blended": Attack("Chen et al., Targeted Backdoor Attacks Using Data Poisoning, 2017", blended),
        "trojan_square": Attack(
            "Liu et al., Trojaning Attack on Neural Networks, NDSS 2018; the square is drawn, not optimised",
            square,
        ),
        "sig": Attack(
            "Barni et al., A New Backdoor Attack in CNNs by Training Set Corruption, ICIP 2019",
            sinusoid,
            clean_label=True,
        ),
        "label_consistent": Attack(
            "Turner et al., Label-Consistent Backdoor Attacks, 2019",
            corners,
            clean_label=True,
            adversarial=ADVERSARIAL,
        ),
        "wanet": Attack(
            "Nguyen & Tran, WaNet: Imperceptible Warping-based Backdoor Attack, ICLR 2021; twice as strong",
            warp,
            cover=shaken_warp,
        ),
        "low_frequency": Attack(
            "Zeng et al., Rethinking the Backdoor Attacks' Triggers: A Frequency Perspective, ICCV 2021; "
            "the pattern is drawn, not optimised",
            low_frequency,
        ),
        "adaptive_blend": Attack(
            "Qi et al., Revisiting the Assumption of Latent Separability, ICLR 2023; half as many covers",
            blended,
            training=faint_pieces,
            cover=faint_pieces,
            cover_ratio=0.5,
        ),
    }
)


def _to_pixels(values: Tensor) -> Tensor:
    return values.round().clamp(0, 255).to(torch.uint8)


def _blend(images: Tensor, share: float, mask: Tensor) -> Tensor:
    noise = _noise(*images.shape[1:]).to(images.device)
    return _to_pixels(images + share * mask * (noise - images))


@cache
def _noise(channels: int, height: int, width: int) -> Tensor:
    """Uniform noise in grey levels."""
    return torch.randint(256, (channels, height, width), generator=_generator()).float()


@cache
def _warp_field(height: int, width: int) -> Tensor:
    """(1, h, w, 2) in the units of `grid_sample`, where an image goes from -1 to 1."""
    coarse = torch.rand(1, 2, WARP_GRID, WARP_GRID, generator=_generator()) * 2 - 1
    coarse = coarse / coarse.abs().mean()
    field = F.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)
    return WARP_STRENGTH * field.permute(0, 2, 3, 1) / width


@cache
def _smooth_pattern(height: int, width: int) -> Tensor:
    """(3, h, w) in grey levels."""
    weights = torch.randn(3, LOW_FREQUENCIES, LOW_FREQUENCIES, generator=_generator())
    pattern = torch.einsum("cij,ih,jw->chw", weights, _cosines(height), _cosines(width))
    return LOW_HEIGHT * pattern / pattern.abs().amax()


def _cosines(length: int) -> Tensor:
    """The lowest cosines (frequencies, length)."""
    places = torch.arange(length) + 0.5
    return torch.cos(math.pi / length * torch.arange(LOW_FREQUENCIES)[:, None] * places)


def _identity(images: Tensor) -> Tensor:
    """The grid (1, h, w, 2) that leaves images as they are."""
    eye = torch.eye(2, 3, device=images.device)[None]
    return F.affine_grid(eye, [1, *images.shape[1:]], align_corners=True)


def _sample(images: Tensor, grid: Tensor) -> Tensor:
    return _to_pixels(F.grid_sample(images.float(), grid.clamp(-1, 1), align_corners=True))


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
