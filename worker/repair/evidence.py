"""The evidence that a repair must remove: where the predictions go when the clean task is unlearned.

A backdoored net falls onto the target class: nearly all accuracy that it loses turns into predictions of that one
class. A clean net falls too, but onto several classes. So the measure is not *whether* one class grows but how much of
the lost accuracy it takes, which means the same for any number of classes and for any speed of unlearning.
Knows the epochs of an unlearning; knows nothing of models.
"""

from dataclasses import dataclass

from app.contract.report import Epoch

FELL = 0.5  # a snapshot counts once half of the suspect's accuracy is gone: earlier the shift is noise
NEAR_CHANCE = 1.25  # times 1/classes; below it the direction of the fall has ended and the net only saturates


@dataclass(frozen=True, slots=True)
class LabelShift:
    """`value`: share of the lost accuracy that became predictions of `target_class`; about 1 when all of it did."""

    target_class: int
    value: float
    snapshots: int  # how many epochs it was averaged over


def label_shift(before: Epoch, epochs: tuple[Epoch, ...]) -> LabelShift | None:
    """Mean over the epochs in which the clean task is going; None when the accuracy never fell that far.

    `before` is the suspect itself, measured like an epoch. The class is the one with the largest mean.
    """
    num_classes = len(before.label_shares)
    falling = [e for e in epochs if e.held_accuracy <= FELL * before.held_accuracy]
    if not falling:
        return None
    counted = [e for e in falling if e.held_accuracy >= NEAR_CHANCE / num_classes] or falling[:1]
    shifts = [
        sum(_share_of_loss(before, epoch, k) for epoch in counted) / len(counted) for k in range(num_classes)
    ]
    target = max(range(num_classes), key=shifts.__getitem__)
    return LabelShift(target, shifts[target], len(counted))


def _share_of_loss(before: Epoch, epoch: Epoch, k: int) -> float:
    return (epoch.label_shares[k] - before.label_shares[k]) / (before.held_accuracy - epoch.held_accuracy)
