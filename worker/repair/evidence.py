"""The evidence that a repair must remove: where the predictions go when the clean task is unlearned.

A backdoored net falls onto the target class: nearly all accuracy that it loses turns into predictions of that one
class. A clean net falls too, but onto several classes. So the measure is not *whether* one class grows but how much of
the lost accuracy it takes, which means the same for any number of classes and for any speed of unlearning.
Knows the epochs of an unlearning; knows nothing of models.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from app.contract.report import Epoch
from worker.detectors.perturbation import Perturbation

FELL = 0.7  # of the way from the suspect's accuracy to chance; earlier the shift is noise
NEAR_CHANCE = 1.25  # times 1/classes; below it the direction of the fall has ended and the net only saturates


@dataclass(frozen=True, slots=True)
class LabelShift:
    """`value`: share of the lost accuracy that became predictions of `target_class`; about 1 when all of it did."""

    target_class: int
    value: float
    per_class: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Remaining:
    """What is left of the evidence after a repair; None where an earlier answer already decided."""

    success: float | None  # of the suspect's own perturbations, the most successful one
    relative_size: float | None = None  # of the smallest perturbation that a fresh recovery finds
    label_shift: float | None = None  # lost accuracy that still goes to the suspected class, as a share
    label_shares: tuple[float, ...] | None = None  # of the repaired model when it was unlearned
    suppressed: bool = False  # perturbations find nothing any more
    gone: bool = False  # and unlearning does not either
    another: tuple[Perturbation, ...] = ()  # what the fresh recovery found that still accuses


def label_shift(before: Epoch, runs: Sequence[Sequence[Epoch]]) -> LabelShift | None:
    """Mean over the runs of unlearning; None when the accuracy fell far enough in none of them.

    `before` is the suspect itself, measured like an epoch. The class is the one with the largest mean.
    """
    shifts = [shift for shift in (_shifts(before, epochs) for epochs in runs) if shift is not None]
    if not shifts:
        return None
    means = tuple(fmean(of_class) for of_class in zip(*shifts, strict=True))
    target = max(range(len(means)), key=means.__getitem__)
    return LabelShift(target, means[target], means)


def _shifts(before: Epoch, epochs: Sequence[Epoch]) -> list[float] | None:
    """Of each class, the mean over the epochs in which the clean task is going."""
    classes = range(len(before.label_shares))
    chance = 1 / len(classes)
    fallen = [e for e in epochs if e.held_accuracy <= chance + FELL * (before.held_accuracy - chance)]
    going = [e for e in fallen if e.held_accuracy >= NEAR_CHANCE * chance] or fallen[:1]
    if not going:
        return None
    return [fmean(_share_of_loss(before, epoch, k) for epoch in going) for k in classes]


def _share_of_loss(before: Epoch, epoch: Epoch, k: int) -> float:
    return (epoch.label_shares[k] - before.label_shares[k]) / (before.held_accuracy - epoch.held_accuracy)
