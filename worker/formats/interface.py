"""What a model file is to the rest of the worker: stored tensors on disk, a loaded model in memory.

Knows tensors and files; knows nothing of jobs, HTTP or the science.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

import torch
from torch import Tensor, nn

from app.contract.report import Normalisation

SAVE_STATE_DICT = (
    "Where you trust the file, load it and save only its tensors:\n"
    '    model = torch.load("model.pt", weights_only=False)\n'
    '    torch.save(model.state_dict(), "weights.pt")'
)
SAVE_AGAIN = 'Where you trust the file: torch.save(torch.load("model.pt", weights_only=True), "weights.pt")'
DAMAGED = "Fetch or export the file again, and compare its size with the original."
MAX_DIMENSIONS = 8
MAX_ELEMENTS = 1 << 48


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
    return len(shape) <= MAX_DIMENSIONS and math.prod(max(size, 1) for size in shape) <= MAX_ELEMENTS


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

    A format only says where the tensors lie. `stored` reads them there, and writes changed ones back there, so
    that every other byte of the file stays as it was uploaded.
    """

    name: str

    def recognises(self, head: bytes) -> bool:
        """Whether a file that begins with these bytes (512, or all there are) means to be of this format."""

    def locate(self, file: BinaryIO, size: int) -> Mapping[str, Place]:
        """Key -> place within the `size` bytes of the file, in file order; places never overlap in themselves.

        Raises `ModelError` on anything that is not a plain, bounded set of tensors, having run none of it.
        """

    def seal(self, file: BinaryIO, changed: Iterable[Place]) -> None:
        """Make the checksums of the file agree with new bytes at the `changed` places."""


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
