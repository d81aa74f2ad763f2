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
from worker.repair.evidence import Remaining
from worker.repair.statistics import paired_change, proportion, worst_class
from worker.rnp.masks import Filter, FilterMasks
from worker.rnp.prune import prune
from worker.samples.interface import SampleSet

GROWTH = 1.2  # of the rank from one candidate to the next
LARGEST_SHARE = 0.5  # of all filters
HOPELESS = 5  # budgets; a candidate that costs more ends the walk, since larger ones contain it


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """Nested candidates, smallest first, and the index of the chosen one; None when nothing passed."""

    candidates: tuple[Candidate, ...]
    filters: tuple[tuple[Filter, ...], ...]  # of each candidate
    chosen: int | None
    best: int | None  # the least bad when nothing passed
    reason: str
    label_shares: tuple[float, ...] | None = None  # of the chosen repair when it was unlearned


@dataclass(frozen=True, slots=True)
class _Considered:
    candidate: Candidate
    filters: tuple[Filter, ...]
    label_shares: tuple[float, ...] | None = None


def choose(
    suspect: Classifier,
    masks: FilterMasks,
    select: SampleSet,
    options: PruneOptions,
    evidence_left: Callable[[nn.Module], Remaining],
    progress: Progress = SILENT,
) -> OperatingPoint:
    """Walk the nested thresholds, then find the smallest affordable one that leaves no evidence.

    `evidence_left` unlearns a repaired module and says what is left of the evidence.
    """
    walked = _walk(suspect, masks, select, options, progress)
    affordable = [i for i, c in enumerate(walked) if c.candidate.within_budget]
    if not affordable:
        best = 0 if walked else None
        return _point(walked, None, best, "Every candidate costs more clean accuracy than the budget allows.")

    def passes(index: int) -> bool:
        left = evidence_left(prune(suspect, walked[index].filters))
        candidate = walked[index].candidate.model_copy(update={"evidence": left.toward, "passes": left.gone})
        walked[index] = replace(walked[index], candidate=candidate, label_shares=left.label_shares)
        return left.gone

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
    thresholds = _thresholds(masks, options)
    walked: list[_Considered] = []
    for step, threshold in enumerate(thresholds):
        filters = masks.below(threshold)
        progress.step(Stage.CHOOSE, step, len(thresholds))
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
    progress.step(Stage.CHOOSE, len(thresholds), len(thresholds))
    return walked


def _thresholds(masks: FilterMasks, options: PruneOptions) -> list[float]:
    """The published grid where a step is given; else the masks found at ranks that grow by a fifth.

    Ranks fit any recovery: the masks of one net lie between 0 and 0.3, those of another between 0.7 and 1.
    """
    if options.threshold_step is not None:
        steps = round(options.max_threshold / options.threshold_step)
        return [round(step * options.threshold_step, 6) for step in range(steps + 1)]
    ranked, rank, thresholds = masks.ranked(), 1, []
    while rank <= len(ranked) * LARGEST_SHARE:
        thresholds.append(ranked[rank - 1].mask)
        rank = max(rank + 1, round(rank * GROWTH))
    return thresholds


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
        label_shares=walked[chosen].label_shares if chosen is not None else None,
    )
