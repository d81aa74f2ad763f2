"""What an architecture is: how to build it, and how to read its arguments out of keys and shapes.

Knows modules and shapes; knows nothing of files.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import nn

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Argument:
    """An integer that an architecture can be told."""

    default: int
    allowed: range


@dataclass(frozen=True, slots=True)
class Architecture:
    """`build(num_classes, **arguments)`; `infer` reads `num_classes` and the arguments.

    What it cannot read it leaves out; when that is everything it gives None.
    """

    build: Callable[..., nn.Module]
    infer: Callable[[Shapes], dict[str, int] | None]
    input_shape: tuple[int, int, int] = (3, 32, 32)
    arguments: Mapping[str, Argument] = field(default_factory=dict)


def first_axes(shapes: Shapes, **keys: str) -> dict[str, int] | None:
    """Each name with the length of the first axis of its key, as far as they are there; None when none is."""
    found = {name: shapes[key][0] for name, key in keys.items() if any(shapes.get(key, ())[:1])}
    return found or None
