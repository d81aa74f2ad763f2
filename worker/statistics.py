"""Proportions and paired changes, each with a 95 % interval.

Knows predictions; knows nothing of models.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from app.contract.report import Estimate, PairedChange

Z = 1.959963984540054  # two-sided 95 %
SOFTNESS = 0.5  # nats of margin; a hit that is so clear counts 73 %


def proportion(hits: Tensor) -> Estimate:
    """Mean of hits (n,), boolean or each in [0, 1], Wilson (1927) interval; n = 0 knows nothing: 0 in [0, 1].

    A hit between 0 and 1 is a mean over views of one image; the interval is then wider than it need be.
    """
    n, k = len(hits), float(hits.sum())
    if n == 0:
        return Estimate(value=0.0, low=0.0, high=1.0, n=0)
    centre, spread = k + Z**2 / 2, Z * math.sqrt(k * (n - k) / n + Z**2 / 4)
    low, high = (centre - spread) / (n + Z**2), (centre + spread) / (n + Z**2)
    return Estimate(value=k / n, low=0.0 if k == 0 else low, high=1.0 if k == n else high, n=n)


def graded_hits(logits: Tensor, labels: Tensor) -> Tensor:
    """How well each image's class stands beside its strongest rival: (n, num_classes), (n,) -> (n,) in [0, 1].

    One half where they are even. Of two models that are compared on few images a mean of these errs less than one of
    right and wrong, where an image that was undecided before counts as much as one that was lost. Where a model says
    nothing (NaN), nothing is right.
    """
    own = labels[:, None]
    rival = logits.scatter(1, own, -torch.inf).amax(1)
    return torch.sigmoid((logits.gather(1, own).squeeze(1) - rival).double() / SOFTNESS).nan_to_num(0.0)


def paired_change(before: Tensor, after: Tensor) -> PairedChange:
    """Mean change of hits on the same n images, (n,) each, boolean or in [0, 1].

    Agresti & Min (2005): the Wald interval after one observation in each direction is added by halves, which keeps its
    coverage where few images change.
    """
    change = after.double() - before.double()
    n, total, squares = len(change), float(change.sum()), float(change.square().sum())
    lost, gained = int((change < 0).sum()), int((change > 0).sum())
    if n == 0:
        return PairedChange(value=0.0, low=-1.0, high=1.0, n=0, lost=0, gained=0)
    m = n + 2
    centre, spread = total / m, Z * math.sqrt(squares + 1 - total**2 / m) / m
    return PairedChange(
        value=total / n,
        low=max(-1.0, centre - spread),
        high=min(1.0, centre + spread),
        n=n,
        lost=lost,
        gained=gained,
    )


@dataclass(frozen=True, slots=True)
class ClassChange:
    """How the accuracy of one class changed, and what it may lose, as a positive share."""

    index: int
    change: float
    allowed: float


def worst_class(
    before: Tensor, after: Tensor, labels: Tensor, num_classes: int, budget: float
) -> ClassChange:
    """The class that lost most beside what it may lose; classes without images do not count.

    A class may lose `budget` and one of its images besides: the worst of many that have fifteen each has lost that much
    by chance alone, and of three images nothing finer can be told.
    """
    counts = torch.bincount(labels, minlength=num_classes)
    total = torch.bincount(labels, weights=after.double() - before.double(), minlength=num_classes)
    change, allowed = total / counts.clamp(min=1), budget + 1 / counts.clamp(min=1).double()
    worst = int(torch.where(counts > 0, change + allowed, torch.inf).argmin())
    return ClassChange(worst, float(change[worst]), float(allowed[worst]))
