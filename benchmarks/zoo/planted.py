"""The attack that a model carries, by its name: a pure function, or one whose weights lie beside the model's."""

from pathlib import Path

import torch

from benchmarks.zoo import input_aware
from benchmarks.zoo.attacks import ATTACKS, Attack
from benchmarks.zoo.images import Images

LEARNED = "input_aware"
NAMES = (*ATTACKS, LEARNED)


def trigger_path(weights: Path) -> Path:
    """Where the weights of a learned trigger lie."""
    return weights.with_suffix(f".trigger{weights.suffix}")


def attack_of(name: str, weights: Path) -> Attack:
    """The attack that a card calls `name`, as it is used against the model in the file `weights`."""
    return input_aware.read(trigger_path(weights)) if name == LEARNED else ATTACKS[name]


def prepare(name: str, images: Images, draw: torch.Generator) -> Attack:
    """The attack as a training begins with it."""
    return input_aware.prepare(images.pixels, draw) if name == LEARNED else ATTACKS[name]
