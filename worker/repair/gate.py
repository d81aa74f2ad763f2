"""What a repair costs: candidates, measured on images that fitted nothing.

Knows masks, classifiers and the selecting split; has no way to be given a triggered sample.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from app.contract.job import Stage
from app.contract.options import PruneOptions
from app.contract.report import Candidate
from worker.classifier import Classifier, views
from worker.progress import Progress
from worker.rnp.masks import Filter, FilterMasks
from worker.rnp.prune import prune
from worker.samples.interface import SampleSet
from worker.statistics import ClassChange, graded_hits, paired_change, proportion, worst_class

GROWTH = 1.3  # of the rank from one candidate to the next
LARGEST_SHARE = 0.5  # of all filters
HOPELESS = 5  # budgets; a candidate that costs more ends the walk, since larger ones contain it


@dataclass(frozen=True, slots=True)
class Length:
    """How far a repair goes on the way to relearned weights."""

    rate: float = 1.0  # of the usual learning rate; at half of it a way ends sooner, and costs less
    share: float = 1.0  # of the straight line to where it ends
    depth: float = (
        1.0  # of the layers, from the first that runs, that learn; the last ones cost most and remove least
    )

    @property
    def ends(self) -> bool:
        """Whether it is where the way ends; before that a backdoor is asleep."""
        return (self.rate, self.share) == (1.0, 1.0)


WHOLE = Length()


@dataclass(frozen=True, slots=True)
class Considered:
    """One candidate and the repaired module that it stands for."""

    candidate: Candidate
    filters: tuple[Filter, ...]  # pruned
    relearned: nn.Module | None = None  # None: pruning alone
    label_shares: tuple[float, ...] | None = None  # of the repaired module when it was unlearned
    silent: bool = False  # it was asked, and no evidence is left, whatever it costs

    def module(self, suspect: Classifier) -> nn.Module:
        """The repaired module."""
        return self.relearned or prune(suspect, self.filters)


class Gate:
    """What a repair costs on the selecting split, beside the suspect."""

    def __init__(self, suspect: Classifier, select: SampleSet, options: PruneOptions) -> None:
        self.suspect, self.select, self.options = suspect, select, options
        self.before = self._hits(suspect)

    def _hits(self, classifier: Classifier) -> Tensor:
        """Graded hits of each image, the mean over its views, (n,)."""
        seen = [graded_hits(classifier.logits(view), self.select.labels) for view in views(self.select)]
        return torch.stack(seen).mean(0)

    def consider(
        self, filters: tuple[Filter, ...], relearned: nn.Module | None = None, length: Length | None = None
    ) -> Considered:
        """Measure one repair."""
        module = relearned or prune(self.suspect, filters)
        after = self._hits(self.suspect.with_module(module))
        change = paired_change(self.before, after)
        worst = worst_class(
            self.before, after, self.select.labels, self.suspect.num_classes, self.options.class_budget
        )
        candidate = Candidate(
            rung="prune" if relearned is None else "relearn",
            share=length and length.share,
            rate=length and length.rate,
            depth=length and length.depth,
            threshold=filters[-1].mask if filters else None,
            pruned=len(filters),
            accuracy=proportion(after),
            change=change,
            worst_class=worst.index,
            worst_class_change=worst.change,
            worst_class_allowed=worst.allowed,
            within_budget=_within(change.value, worst, self.options),
        )
        return Considered(candidate, filters, relearned)


def walk(gate: Gate, masks: FilterMasks, options: PruneOptions, progress: Progress) -> list[Considered]:
    """One candidate for each threshold that prunes more than the last one did."""
    thresholds = _thresholds(masks, options)
    walked: list[Considered] = []
    for step, threshold in enumerate(thresholds):
        filters = masks.below(threshold)
        progress.step(Stage.CHOOSE, step, len(thresholds))
        if len(filters) == (len(walked[-1].filters) if walked else 0):
            continue
        walked.append(gate.consider(filters))
        if walked[-1].candidate.change.value < -HOPELESS * options.accuracy_budget:
            break
    progress.step(Stage.CHOOSE, len(thresholds), len(thresholds))
    return walked


def _thresholds(masks: FilterMasks, options: PruneOptions) -> list[float]:
    """The published grid where a step is given; else the masks found at ranks that grow by three tenths.

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


def _within(change: float, worst: ClassChange, options: PruneOptions) -> bool:
    tolerance = torch.finfo(torch.float32).eps  # 3 of 150 images are 2 %, whatever the last bit says
    return change >= -options.accuracy_budget - tolerance and worst.change >= -worst.allowed - tolerance
