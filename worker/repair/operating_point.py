"""The operating point: which filters are pruned, chosen without any triggered sample.

Published RNP walks thresholds over the masks and lets a person look at the attack's success on poisoned test images.
Here the candidates are the same nested thresholds, but a candidate passes when (1) on images that fitted nothing the
paired loss of clean accuracy stays inside the budget, overall and for the worst class, and (2) the evidence is gone:
the repaired model, unlearned in its turn, no longer falls onto one class. The smallest that passes is chosen.

Knows masks, classifiers and the selecting split; has no way to be given a triggered sample.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import nn

from app.contract.job import Stage
from app.contract.options import PruneOptions
from app.contract.report import Candidate
from worker.classifier import Classifier
from worker.progress import SILENT, Progress
from worker.repair.statistics import paired_change, proportion, worst_class
from worker.rnp.masks import Filter, FilterMasks
from worker.rnp.prune import prune
from worker.samples.interface import SampleSet

HOPELESS = 5  # budgets; a candidate that costs more ends the walk, since larger ones contain it


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """Nested candidates, smallest first, and the index of the chosen one; None when nothing passed."""

    candidates: tuple[Candidate, ...]
    filters: tuple[tuple[Filter, ...], ...]  # of each candidate
    chosen: int | None
    best: int | None  # the least bad when nothing passed
    reason: str


@dataclass(frozen=True, slots=True)
class _Considered:
    candidate: Candidate
    filters: tuple[Filter, ...]


def choose(
    suspect: Classifier,
    masks: FilterMasks,
    select: SampleSet,
    options: PruneOptions,
    leaves_no_evidence: Callable[[nn.Module], tuple[float, bool]],
    progress: Progress = SILENT,
) -> OperatingPoint:
    """Walk the nested thresholds, then find the smallest affordable one that leaves no evidence.

    `leaves_no_evidence` unlearns a repaired module: the evidence that is left, and whether that is little enough.
    """
    walked = _walk(suspect, masks, select, options, progress)
    affordable = [i for i, c in enumerate(walked) if c.candidate.within_budget]
    if not affordable:
        best = 0 if walked else None
        return _point(walked, None, best, "Every candidate costs more clean accuracy than the budget allows.")

    def passes(index: int) -> bool:
        left, passed = leaves_no_evidence(prune(suspect, walked[index].filters))
        candidate = walked[index].candidate.model_copy(update={"evidence": left, "passes": passed})
        walked[index] = replace(walked[index], candidate=candidate)
        return passed

    # Candidates are nested, so the one that prunes most is asked first: if even it leaves evidence, none removes it.
    low, high = 0, len(affordable) - 1
    if not passes(affordable[high]):
        reason = "The evidence stands even in the largest candidate that the accuracy budget allows."
        return _point(walked, None, affordable[high], reason)
    while low < high:
        middle = (low + high) // 2
        if passes(affordable[middle]):
            high = middle
        else:
            low = middle + 1
    reason = "The smallest candidate inside the accuracy budget that leaves no evidence."
    return _point(walked, affordable[high], None, reason)


def _walk(
    suspect: Classifier, masks: FilterMasks, select: SampleSet, options: PruneOptions, progress: Progress
) -> list[_Considered]:
    """One candidate for each threshold that prunes more than the last one did."""
    before = suspect.predictions(select.images) == select.labels
    steps = round(options.max_threshold / options.threshold_step)
    walked: list[_Considered] = []
    for step in range(steps + 1):
        threshold = round(step * options.threshold_step, 6)
        filters = masks.below(threshold)
        progress.step(Stage.CHOOSE, step, steps)
        if len(filters) == (len(walked[-1].filters) if walked else 0):
            continue
        after = suspect.with_module(prune(suspect, filters)).predictions(select.images) == select.labels
        change = paired_change(before, after)
        worst, worst_change = worst_class(before, after, select.labels, suspect.num_classes)
        candidate = Candidate(
            threshold=threshold,
            pruned=len(filters),
            accuracy=proportion(after),
            change=change,
            worst_class=worst,
            worst_class_change=worst_change,
            within_budget=_within(change.value, worst_change, options),
        )
        walked.append(_Considered(candidate, filters))
        if change.value < -HOPELESS * options.accuracy_budget:
            break
    progress.step(Stage.CHOOSE, steps, steps)
    return walked


def _within(change: float, worst_change: float, options: PruneOptions) -> bool:
    tolerance = torch.finfo(torch.float32).eps  # 3 of 150 images are 2 %, whatever the last bit says
    return (
        change >= -options.accuracy_budget - tolerance and worst_change >= -options.class_budget - tolerance
    )


def _point(walked: list[_Considered], chosen: int | None, best: int | None, reason: str) -> OperatingPoint:
    return OperatingPoint(
        candidates=tuple(c.candidate for c in walked),
        filters=tuple(c.filters for c in walked),
        chosen=chosen,
        best=best,
        reason=reason,
    )
