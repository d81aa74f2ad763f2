"""Backdoor label detection: the class that a model is pulled toward while its clean task is unlearned.

RNP names the task and ships no code for it (Li et al., ICML 2023, §4.4). Two readings of the same unlearnings:

*Label shift*, where the predictions go. A backdoored net falls onto the target class: nearly all accuracy that it loses
turns into predictions of that one class. A clean net falls too, but onto several classes. So the measure is not
*whether* one class grows but how much of the lost accuracy it takes, which means the same for any number of classes and
for any speed of unlearning (after Li et al., Expose Before You Defend, 2024, where the share itself is read).

*Head movement*, which row of the last layer moves most, as a share of its own size (after Min et al., Unified Neural
Backdoor Removal with Only Few Clean Samples through Unlearning and Relearning, 2024: rows of outlying change).
The rows speak where the predictions do not, as on clean-label backdoors and additive squares.

Knows epochs and tensors; knows nothing of models.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median

import torch
from torch import Tensor

from app.contract.report import Epoch

FELL = 0.7  # of the way from the suspect's accuracy to chance; earlier the shift is noise
NEAR_CHANCE = 1.25  # times 1/classes; below it the direction of the fall has ended and the net only saturates
FEWEST = 4  # classes; the movement of one row is read beside the median of the others
LEAST = 1e-12  # movement of rows that do not move at all


@dataclass(frozen=True, slots=True)
class Pull:
    """`value`: how strongly unlearning leads to `target_class`, the class with the largest of `per_class`."""

    target_class: int
    value: float
    per_class: tuple[float, ...]


def label_shift(before: Epoch, runs: Sequence[Sequence[Epoch]]) -> Pull | None:
    """Share of the lost accuracy that became predictions of each class; about 1 when all of it did.

    Mean over the runs of unlearning; None when the accuracy fell far enough in none of them. `before` is the suspect
    itself, measured like an epoch.
    """
    shifts = [shift for shift in (_shifts(before, epochs) for epochs in runs) if shift is not None]
    if not shifts:
        return None
    return strongest([fmean(of_class) for of_class in zip(*shifts, strict=True)])


def head_movement(before: Tensor, after: Sequence[Tensor]) -> Pull | None:
    """How far the row of each class moved, relative to its size, over the median of the other classes.

    Weights of the last layer, (classes, …), of the suspect and of each unlearned model; mean over these. None for fewer
    classes than have a median to speak of.
    """
    if len(before) < FEWEST:
        return None
    rows = before.flatten(1).double()
    moved = torch.stack([(other.flatten(1).double() - rows).abs().sum(1) for other in after]).mean(0)
    shares = (moved / rows.abs().sum(1).clamp(min=LEAST)).tolist()
    others = (median(shares[:k] + shares[k + 1 :]) for k in range(len(shares)))
    return strongest([share / max(typical, LEAST) for share, typical in zip(shares, others, strict=True)])


def strongest(per_class: Sequence[float]) -> Pull:
    """The pull toward the class with the largest value."""
    target = max(range(len(per_class)), key=per_class.__getitem__)
    return Pull(target, per_class[target], tuple(per_class))


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
