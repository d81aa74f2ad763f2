"""What is measured after everything has been decided; the only place that is handed triggered samples.

ACC, ASR and RA are BackdoorBench's; ASR and RA leave out images that already are of the target class.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from app.contract.options import SanitizeOptions
from app.contract.report import BeforeAfter, Candidate, ClassAccuracy, Metrics
from worker.classifier import Classifier
from worker.detectors.perturbation import Form, Perturbation
from worker.pipelines.decision import Decision
from worker.pipelines.examine import Examined
from worker.repair.operating_point import OperatingPoint
from worker.repair.pursuit import pursue
from worker.samples.interface import CleanSplit, SampleSet, TriggeredSet
from worker.statistics import paired_change, proportion


@dataclass(frozen=True, slots=True)
class Success:
    """Of one perturbation, on images that taught neither model."""

    found: BeforeAfter
    times: float = 1.0  # as strong; of a patch as large
    firmly: BeforeAfter | None = None  # then; None: it accuses nothing


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was measured once nothing was to be decided any more."""

    metrics: Metrics
    candidates: tuple[Candidate, ...]  # with their attack success, where triggered samples were given
    successes: tuple[Success, ...]  # of each perturbation
    triggered: TriggeredSet | None


def evaluate(
    suspect: Classifier,
    repaired: Classifier,
    decision: Decision,
    parts: CleanSplit,
    triggered: TriggeredSet | None,
    options: SanitizeOptions,
) -> Evaluation:
    """Both models on the reporting split and, if given, they and all candidates on triggered samples."""
    examined = decision.examined
    accused, placed = examined.accused(options.evidence), in_place(suspect, examined, parts.fit, options)
    held = parts.report if decision.chosen and decision.chosen.candidate.taught_again else parts.select

    def success(found: Perturbation) -> Success:
        def tried(one: Perturbation) -> BeforeAfter:
            return BeforeAfter(before=one.success(suspect, held), after=one.success(repaired, held))

        if found not in accused:
            return Success(tried(found))
        if found.form is Form.PATCH and found.target_class in placed:
            larger = placed[found.target_class]
            return Success(tried(found), larger.size / found.size, tried(larger))
        times, stronger = found.firm(suspect, parts.fit)
        return Success(tried(found), times, tried(stronger))

    return Evaluation(
        metrics(suspect, repaired, parts.report, triggered),
        candidates(suspect, decision.point, triggered),
        tuple(map(success, examined.perturbations)),
        triggered,
    )


def in_place(
    suspect: Classifier, examined: Examined, fit: SampleSet, options: SanitizeOptions
) -> dict[int, Perturbation]:
    """Class -> what leads there best in the place of the patches that accuse, and need not be small any more.

    The smallest patch has an opaque pixel or two, which no factor makes a trigger: of held images it turned 85 to 89 %
    at up to twice its strength, and what may fill its place all.
    """
    followers = examined.followers(options.evidence, suspect.placement)
    patches = [follower for follower in followers if follower.form is Form.PATCH]
    found = pursue(suspect, fit, patches, options.perturbation, options.seed) if patches else ()
    return {one.target_class: one for one in found}


def metrics(
    suspect: Classifier, repaired: Classifier, clean: SampleSet, triggered: TriggeredSet | None
) -> Metrics:
    """Both models on the reporting split and, if given, on triggered samples."""
    before = suspect.predictions(clean.images) == clean.labels
    after = repaired.predictions(clean.images) == clean.labels
    success, robust = None, None
    if triggered is not None:
        attacked = against_other_classes(triggered)
        was, now = suspect.predictions(attacked.images), repaired.predictions(attacked.images)
        success = _both(was == attacked.targets, now == attacked.targets)
        robust = _both(was == attacked.labels, now == attacked.labels)
    return Metrics(
        clean_accuracy=_both(before, after),
        clean_change=paired_change(before, after),
        per_class=tuple(
            ClassAccuracy(
                index=k, name=name, accuracy=_both(before[clean.labels == k], after[clean.labels == k])
            )
            for k, name in enumerate(clean.class_names)
        ),
        attack_success=success,
        robust_accuracy=robust,
    )


def candidates(
    suspect: Classifier, point: OperatingPoint | None, triggered: TriggeredSet | None
) -> tuple[Candidate, ...]:
    """The candidates, with what triggered samples say of each. Nothing is decided any more."""
    if point is None:
        return ()
    if triggered is None:
        return tuple(considered.candidate for considered in point.considered)
    attacked = against_other_classes(triggered)

    def attack_success(module: torch.nn.Module) -> float:
        predictions = suspect.with_module(module).predictions(attacked.images)
        return proportion(predictions == attacked.targets).value

    return tuple(
        considered.candidate.model_copy(update={"attack_success": attack_success(considered.module(suspect))})
        for considered in point.considered
    )


def against_other_classes(triggered: TriggeredSet) -> TriggeredSet:
    """Without the images whose true class is the target."""
    kept = triggered.labels != triggered.targets
    return TriggeredSet(
        triggered.images[kept],
        triggered.labels[kept],
        triggered.targets[kept],
        triggered.name,
        triggered.digest,
    )


def _both(before: Tensor, after: Tensor) -> BeforeAfter:
    return BeforeAfter(before=proportion(before), after=proportion(after))
