"""The attack that a model carries, by its name: a pure function, or one whose weights lie beside the model's."""

from pathlib import Path

import torch

from benchmarks.zoo import input_aware, overlay
from benchmarks.zoo.attacks import ATTACKS, Attack
from benchmarks.zoo.images import Images

LEARNED = "input_aware"
OVERLAY = "overlay"  # of models that others trained; nothing here plants it
STORED = {LEARNED: input_aware.read, OVERLAY: overlay.read}
NAMES = (*ATTACKS, LEARNED)


def trigger_path(weights: Path) -> Path:
    """Where a trigger lies that is stored."""
    return weights.with_suffix(f".trigger{weights.suffix}")


def attack_of(name: str, weights: Path) -> Attack:
    """The attack that a card calls `name`, as it is used against the model in the file `weights`."""
    return STORED[name](trigger_path(weights)) if name in STORED else ATTACKS[name]


def prepare(name: str, images: Images, draw: torch.Generator) -> Attack:
    """The attack as a training begins with it."""
    return input_aware.prepare(images.pixels, draw) if name == LEARNED else ATTACKS[name]
