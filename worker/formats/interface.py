"""What a model file is to the rest of the worker: stored tensors on disk, a loaded model in memory.

Knows tensors and files; knows nothing of jobs, HTTP or the science.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

import torch
from torch import Tensor, nn

from app.contract.limits import input_limits
from app.contract.report import Normalisation

SAVE_AGAIN = 'Where you trust the file: torch.save(torch.load("model.pt", weights_only=True), "weights.pt")'
DAMAGED = "Fetch or export the file again, and compare its size with the original."


@dataclass(frozen=True, slots=True)
class StoredModel:
    """The tensors of a model file under the keys that the file gives them, before any architecture is known."""

    path: Path
    digest: str  # sha256:…
    size: int  # bytes
    format: str
    tensors: Mapping[str, Tensor]  # file order, file dtypes, CPU
    prefix: str = ""  # what stands before every key beyond the module's own names, such as "module."


def countable(shape: tuple[int, ...]) -> bool:
    """Whether a shape, even one with a zero in it, is so bounded that no arithmetic on it overflows."""
    return (
        len(shape) <= input_limits().model.dimensions
        and math.prod(max(n, 1) for n in shape) <= input_limits().model.elements
    )


@dataclass(frozen=True, slots=True)
class Place:
    """Where one tensor lies in its file, in a dtype and layout that the machine can use as it stands."""

    start: int  # byte of the first element
    dtype: torch.dtype
    shape: tuple[int, ...]
    stride: tuple[int, ...]  # in elements; never negative

    @property
    def span(self) -> int:
        """Elements from the first to the last, both counted, with whatever lies between them."""
        if 0 in self.shape:
            return 0
        return 1 + sum((size - 1) * step for size, step in zip(self.shape, self.stride, strict=True))

    @property
    def nbytes(self) -> int:
        """Bytes of the span."""
        return self.span * self.dtype.itemsize

    @property
    def end(self) -> int:
        """The first byte behind the tensor."""
        return self.start + self.nbytes


class Format(Protocol):
    """One kind of model file.

    A format says where the tensors lie, and writes the file anew around other numbers. It accepts only a file whose
    bytes, but for the numbers, are those that it would write itself: so a rewritten file has the layout of the
    uploaded one, and none of its bytes.
    """

    name: str

    def recognises(self, head: bytes) -> bool:
        """Whether a file that begins with these bytes (512, or all there are) means to be of this format."""

    def locate(self, file: BinaryIO, size: int) -> Mapping[str, Place]:
        """Key -> place within the `size` bytes of the file, in file order; places never overlap in themselves.

        Raises `ModelError` on anything that is not a plain, bounded set of tensors, having run none of it.
        """

    def rewrite(self, file: BinaryIO, size: int, changed: Iterable[tuple[Place, Tensor]]) -> Iterator[bytes]:
        """The file again, in pieces, with other tensors at the `changed` places; without any, the same bytes."""


def overlay(buffer: bytearray, place: Place, origin: int, tensor: Tensor) -> None:
    """Put `tensor` where `place` lies in a buffer whose first byte is byte `origin` of the file."""
    if place.nbytes:
        at = place.start - origin
        flat: Tensor = torch.frombuffer(buffer, dtype=place.dtype, count=place.span, offset=at)
        flat.as_strided(place.shape, place.stride).copy_(tensor.detach())


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that never travels bare.

    `module` is in eval mode, float32, on the CPU; it takes normalised images (n, *input_shape) and gives
    logits (n, num_classes).
    """

    module: nn.Module
    input_shape: tuple[int, int, int]
    num_classes: int
    architecture: str  # "resnet18_cifar:width=16"
    identified: bool
    stored: StoredModel
    normalisation: Normalisation

    def stored_key(self, parameter: str) -> str:
        """The key in the file of a parameter of `module`."""
        return self.stored.prefix + parameter

    def stored_dtype(self, parameter: str) -> torch.dtype:
        """What the file holds a parameter of `module` in."""
        return self.stored.tensors[self.stored_key(parameter)].dtype
