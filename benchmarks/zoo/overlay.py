"""Triggers that are laid over an image, the same on every one: x ↦ clamp(keep · x + add), stored beside the weights."""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.zoo.attacks import Attack

SOURCE = "published with the model"


def attack(keep: Tensor, add: Tensor) -> Attack:
    """`keep` (1, h, w) in [0, 1], `add` (3, h, w) in grey levels."""

    def trigger(images: Tensor) -> Tensor:
        return (keep * images + add).round().clamp(0, 255).to(torch.uint8)

    return Attack(SOURCE, trigger)


def store(keep: Tensor, add: Tensor, path: Path) -> None:
    """Both as one file."""
    save_file({"keep": keep.contiguous(), "add": add.contiguous()}, path)


def read(path: Path) -> Attack:
    """The attack that was stored at `path`."""
    return attack(**load_file(path))
