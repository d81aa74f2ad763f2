"""What a model file is to the rest of the worker: stored tensors on disk, a loaded model in memory.

Knows tensors and files; knows nothing of jobs, HTTP or the science.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor, nn

from app.contract.report import Normalisation


@dataclass(frozen=True, slots=True)
class StoredModel:
    """The tensors of a model file under the keys that the file gives them, before any architecture is known."""

    path: Path
    digest: str  # sha256:…
    size: int  # bytes
    format: str
    tensors: Mapping[str, Tensor]  # file order, file dtypes, CPU
    prefix: str = ""  # what stands before every key beyond the module's own names, such as "module."


class Format(Protocol):
    """One kind of model file."""

    name: str

    def recognises(self, path: Path) -> bool:
        """Whether the first bytes of the file are of this format. Never raises on content."""

    def read(self, path: Path) -> StoredModel:
        """The stored tensors. Raises `ModelError` on anything that is not a plain, bounded set of tensors."""

    def write(self, source: StoredModel, tensors: Mapping[str, Tensor], target: Path) -> None:
        """Write `tensors` in the form of `source`: same keys, order, dtypes, nesting and metadata."""


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
    normalisation: Normalisation | None = None

    def stored_key(self, parameter: str) -> str:
        """The key in the file of a parameter of `module`."""
        return self.stored.prefix + parameter
