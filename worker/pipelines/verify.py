"""Whether a repair has silenced what accused the model: the witnesses are asked again, the cheapest question first."""

from collections.abc import Sequence
from dataclasses import replace

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
    """Ask both witnesses again, the cheapest question first; the first that still accuses ends the hearing."""
    verify = As(progress, Stage.VERIFY)
    success, excess = success_of(repaired, examined.accused(options.evidence), parts.select)
    if excess > options.evidence.success:
        return Remaining(success)
    pursued = _pursued(repaired, examined, parts, options, verify)
    if pursued is not None and pursued > options.evidence.pursued:
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


def success_of(
    classifier: Classifier, found: Sequence[Perturbation], clean: SampleSet
) -> tuple[float, float]:
    """That of the most successful perturbation, and what of it is beyond images that go to its class by themselves."""
    predicted = classifier.predictions(clean.images)
    success, excess = 0.0, 0.0
    for perturbation in found:
        others = clean.labels != perturbation.target_class
        reached = perturbation.success(classifier, clean).value
        by_itself = proportion(perturbation.reached(predicted[others], clean.labels[others])).value
        success, excess = max(success, reached), max(excess, reached - by_itself)
    return success, excess


def _pursued(
    repaired: Classifier,
    examined: Examined,
    parts: CleanSplit,
    options: SanitizeOptions,
    progress: Progress,
) -> float | None:
    """What perturbations reach that follow the repaired model, beyond what clean images do; None: none can follow."""
    suspects = examined.followers(options.evidence, repaired.placement)
    if not suspects:
        return None
    found = pursue(repaired, parts.fit, suspects, options.perturbation, options.seed, progress)
    return success_of(repaired, found, parts.select)[1]
