"""A perturbation that turns clean images into one class, and how small it is beside those of the other classes.

A backdoor is a shortcut: the smallest way into its target class is far smaller than the smallest way into any other
(Wang et al., Neural Cleanse, S&P 2019, §III). What is found is a perturbation, never "the trigger". Knows pixels and
predictions; knows not how a perturbation was found.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median

from torch import Tensor

from app.contract.report import Estimate
from worker.classifier import Classifier
from worker.samples.interface import SampleSet
from worker.statistics import proportion


class Form(StrEnum):
    """What a perturbation may look like; its size means something else in each."""

    PATCH = "patch"  # a mask through which a pattern shows; size: sum of the mask, in pixels
    DENSE = "dense"  # added to every pixel; size: L2 norm, of pixels in [0, 1]


@dataclass(frozen=True, slots=True, eq=False)  # tensors have no single equality
class Perturbation:
    """x ↦ clamp(keep · x + add, 0, 1) for pixels in [0, 1]: `keep` (1, h, w), `add` (c, h, w), on the CPU."""

    target_class: int
    form: Form
    keep: Tensor
    add: Tensor
    size: float  # infinite when the images never went over to the class

    def perturb(self, pixels: Tensor) -> Tensor:
        """Float pixels in [0, 1], (n, c, h, w), on any device."""
        return (self.keep.to(pixels.device) * pixels + self.add.to(pixels.device)).clamp(0, 1)

    def stamp(self, images: Tensor) -> Tensor:
        """Perturbed uint8 images, as a camera or a file would hold them."""
        return self.perturb(images.float() / 255).mul_(255).round_().byte()

    def success(self, classifier: Classifier, clean: SampleSet) -> Estimate:
        """Share of the images of other classes that go over to the target class."""
        others = clean.take((clean.labels != self.target_class).nonzero().flatten())
        return proportion(classifier.predictions(self.stamp(others.images)) == self.target_class)


def relative_size(found: Perturbation, among: Iterable[Perturbation]) -> float:
    """Size over the median size of the same form for the *other* classes of `among`; 1 where there is no other.

    Other classes, because the median must not move with the class that is judged; a median, because a second target
    must not move it either.
    """
    others = [p.size for p in among if p.form is found.form and p.target_class != found.target_class]
    typical = median(others) if others else math.inf
    if math.isinf(found.size) or math.isinf(typical):
        return 1.0
    return found.size / typical


def smallest(found: Sequence[Perturbation], among: Sequence[Perturbation]) -> dict[int, float]:
    """Class -> relative size of its smallest perturbation, over both forms."""
    sizes: dict[int, float] = {}
    for perturbation in found:
        size = relative_size(perturbation, among)
        k = perturbation.target_class
        sizes[k] = min(size, sizes.get(k, math.inf))
    return sizes
