"""Samples as tensors: what every algorithm is given.

Knows tensors; knows nothing of files, jobs or HTTP.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class SampleSet:
    """Labelled images. `images` uint8 (n, c, h, w), `labels` int64 (n,) with the *true* class of each."""

    images: Tensor
    labels: Tensor
    class_names: tuple[str, ...]  # index -> name, one per class of the model
    name: str = ""  # the uploader's file name, for display
    digest: str = ""  # sha256:… of the archive, or of the sorted files of a folder
    mirrors: bool = True  # a mirrored image shows the same class, as a cat does and a road sign does not

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: Tensor) -> "SampleSet":
        """The samples at `index`, int64 (m,)."""
        return replace(self, images=self.images[index], labels=self.labels[index])


@dataclass(frozen=True, slots=True)
class TriggeredSet:
    """Images that carry a known trigger. Evaluation only; no algorithm that decides takes this type."""

    images: Tensor  # uint8 (n, c, h, w)
    labels: Tensor  # int64 (n,) true class
    targets: Tensor  # int64 (n,) what the attacker wants
    name: str = ""
    digest: str = ""

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True)
class CleanSplit:
    """The clean samples, divided once: what fits, selects and reports. Disjoint; together the whole."""

    fit: SampleSet
    select: SampleSet
    report: SampleSet

    @property
    def teaching(self) -> SampleSet:
        """What fits and what selects, once nothing is to be selected any more."""
        images = torch.cat([self.fit.images, self.select.images])
        return replace(self.fit, images=images, labels=torch.cat([self.fit.labels, self.select.labels]))

    def mirroring(self, *, mirrors: bool) -> "CleanSplit":
        """The same parts, of which a mirrored image shows the same class or not."""
        return CleanSplit(*(replace(part, mirrors=mirrors) for part in (self.fit, self.select, self.report)))
