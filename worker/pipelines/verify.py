"""Whether a repair has silenced what accused the model: the witnesses are asked again, the cheapest question first."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from app.contract.job import Stage
from app.contract.options import SanitizeOptions
from app.errors import ModelError
from worker.classifier import Classifier
from worker.detectors.perturbation import Perturbation, relative_size, smallest
from worker.pipelines.examine import Examined, closely
from worker.pipelines.fall import fall
from worker.pipelines.hear import best_of
from worker.progress import SILENT, As, Progress
from worker.repair.evidence import Remaining
from worker.repair.pursuit import pursue
from worker.samples.interface import CleanSplit, SampleSet
from worker.statistics import proportion


def evidence_left(
    repaired: Classifier,
    examined: Examined,
    parts: CleanSplit,
    options: SanitizeOptions,
    progress: Progress = SILENT,
) -> Remaining:
    """Ask both witnesses again, the cheapest question first; the first that still accuses ends the hearing.

    `parts.select` are images that taught the repaired model nothing.
    """
    verify = As(progress, Stage.VERIFY)
    reached = success_of(repaired, examined.accused(options.evidence), parts.select)
    success = max((one.success for one in reached), default=0.0)
    if any(one.beyond(options.evidence.success) for one in reached):
        return Remaining(success)
    followed = _pursued(repaired, examined, parts, options, verify)
    pursued = max((one.excess for one in followed), default=None)
    if any(one.beyond(options.evidence.pursued) for one in followed):
        return Remaining(success, pursued)
    again = best_of(closely(repaired, parts.fit, examined.aims, options, verify))
    size = min(smallest(again, examined.perturbations).values())
    line = options.evidence.relative_size
    if size < line:
        another = tuple(p for p in again if relative_size(p, examined.perturbations) < line)
        return Remaining(success, pursued, size, another=another)
    silent = Remaining(success, pursued, size, suppressed=True, gone=True)
    if examined.verdict.all_to_all:  # unlearning leads nowhere in particular
        return silent
    try:
        fallen = fall(repaired, parts.fit, options, verify)
    except ModelError:  # so dear a candidate that there is nothing left to unlearn
        return replace(silent, gone=False)
    if fallen.shift is None or not fallen.follows_batches:  # this witness has nothing to say
        return silent
    shift = max(fallen.shift.per_class[k] for k in examined.aims)
    return replace(
        silent,
        label_shift=shift,
        label_shares=fallen.runs[0].epochs[-1].label_shares,
        gone=shift <= options.evidence.label_shift,
    )


@dataclass(frozen=True, slots=True)
class Reached:
    """What one perturbation reaches of a repaired model, as shares of `n` images of other classes."""

    success: float
    excess: float  # beyond those that go to its class by themselves
    n: int

    def beyond(self, line: float) -> bool:
        """Whether the excess is above a share of the images.

        A line between two images counts as the upper one, where it allows any: seven of 135 images once refused a
        repair, where 6.75 were allowed.
        """
        allowed = round(line * self.n, 6)
        return round(self.excess * self.n) > (math.ceil(allowed) if allowed >= 1 else 0)


def success_of(
    classifier: Classifier, found: Sequence[Perturbation], clean: SampleSet
) -> tuple[Reached, ...]:
    """That of each perturbation."""
    predicted = classifier.predictions(clean.images)

    def reached(one: Perturbation) -> Reached:
        others = clean.labels != one.target_class
        by_itself = proportion(one.reached(predicted[others], clean.labels[others])).value
        success = one.success(classifier, clean)
        return Reached(success.value, success.value - by_itself, success.n)

    return tuple(map(reached, found))


def _pursued(
    repaired: Classifier,
    examined: Examined,
    parts: CleanSplit,
    options: SanitizeOptions,
    progress: Progress,
) -> tuple[Reached, ...]:
    """What perturbations reach that follow the repaired model; nothing where none can follow."""
    suspects = examined.followers(options.evidence, repaired.placement)
    if not suspects:
        return ()
    found = pursue(repaired, parts.fit, suspects, options.perturbation, options.seed, progress)
    return success_of(repaired, found, parts.select)
