"""Inputs instead of the model: load → score each suspect input → decide at stated false-alarm rates.

The clean samples that teach anything calibrate nothing; the rest of them say how clean images score. Nobody says here
whether the model has a backdoor: on a clean model the flagged inputs are the expected false alarms.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from app.contract.findings import Skipped
from app.contract.job import Stage
from app.contract.options import Detector
from app.contract.problem import Problem
from app.contract.screening import Decision, Scored, Screening, Suspects
from worker.detectors.poisoned_samples import bound, chance, p_values
from worker.pipelines import reporting
from worker.pipelines.checkpoints import NOWHERE, Checkpoints
from worker.pipelines.clock import Clock
from worker.pipelines.inputs import Loaded, Request, read_inputs
from worker.pipelines.scoring import InQuestion, Scores, by_labels, by_margin, by_repair
from worker.progress import SILENT, Progress
from worker.samples.unlabelled import ImageSet, read_images

RATES = (0.01, 0.05)
DETECTORS: Mapping[Detector, Callable[[InQuestion], Scores]] = {
    "repair": by_repair,
    "margin": by_margin,
    "five_metrics": by_labels,
}


@dataclass(frozen=True, slots=True)
class Screened:
    """The report, and the images in its order, most suspicious first."""

    report: Screening
    images: Tensor = field(repr=False)


def screen(
    request: Request, path: Path, progress: Progress = SILENT, checkpoints: Checkpoints = NOWHERE
) -> Screened:
    """Score the images at `path`; changes and writes nothing. Raises `SanitizerError`."""
    clock, options = Clock(), request.options
    torch.manual_seed(options.seed)
    with clock.stage(Stage.LOAD):
        loaded = read_inputs(request)
        suspects, warnings = read_images(path, loaded.model.input_shape)
    inputs = InQuestion(suspects.images, loaded, options, clock, progress, checkpoints)
    scores = DETECTORS[options.screen.detector](inputs)
    order = scores.suspects.argsort(descending=True, stable=True)
    report = _report(request, loaded, suspects, scores, order, warnings, clock.seconds)
    return Screened(report, suspects.images[order])


def _report(
    request: Request,
    loaded: Loaded,
    suspects: ImageSet,
    scores: Scores,
    order: Tensor,
    warnings: Sequence[Problem],
    timings: dict[str, float],
) -> Screening:
    p = p_values(scores.suspects, scores.clean)
    return Screening(
        model=reporting.model_facts(loaded.model),
        samples=reporting.sample_facts(loaded.clean, loaded.parts),
        suspects=Suspects(name=suspects.name, digest=suspects.digest, n=len(suspects)),
        decisions=tuple(_decision(rate, scores.suspects, scores.clean) for rate in RATES),
        scored=tuple(
            Scored(
                name=suspects.names[place],
                said=int(scores.said[place]),
                score=float(scores.suspects[place]),
                p_value=float(p[place]),
            )
            for place in order.tolist()
        ),
        detector=scores.detector,
        forwards=scores.forwards,
        calibrated_on=len(scores.clean),
        unlearning=scores.fallen.runs[0].epochs if scores.fallen else (),
        options=request.options,
        seed=request.options.seed,
        environment=reporting.environment(request.placement),
        timings=timings,
        skipped=_skipped(scores, request),
        warnings=(*loaded.warnings, *warnings),
        reproduce=request.reproduce,
    )


def _decision(rate: float, scores: Tensor, clean: Tensor) -> Decision:
    line = bound(clean, rate)
    return Decision(
        rate=rate,
        bound=line if math.isfinite(line) else None,
        flagged=int((scores > line).sum()),
        expected_false_alarms=rate * len(scores) if math.isfinite(line) else 0.0,
        chance=chance(int((scores > line).sum()), len(scores), len(clean), rate),
    )


def _skipped(scores: Scores, request: Request) -> tuple[Skipped, ...]:
    skipped = []
    if request.options.screen.detector == "repair" != scores.detector:
        reason = (
            "There is no repair to compare the model with, since nothing accuses it or no candidate was found; "
            "inputs are scored by margin."
        )
        skipped.append(Skipped(what="scores by repair", reason=reason))
    runs = scores.fallen.runs if scores.fallen and scores.detector == "margin" else ()
    if stuck := sum(not run.reached for run in runs):
        reason = (
            f"In {stuck} of {len(runs)} runs the accuracy did not fall to "
            f"{request.options.unlearn.stop_accuracy}; what is left of the clean task blurs the scores."
        )
        skipped.append(Skipped(what="complete unlearning", reason=reason))
    return tuple(skipped)
