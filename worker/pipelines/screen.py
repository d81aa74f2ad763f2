"""Inputs instead of the model: load → unlearn → score each suspect input → decide at stated false-alarm rates.

The clean samples that unlearning fits calibrate nothing; the rest of them say how clean images score. Nobody says here
whether the model has a backdoor: on a clean model the flagged inputs are the expected false alarms.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from app.contract.findings import Skipped
from app.contract.job import Stage
from app.contract.problem import Problem
from app.contract.screening import Decision, Scored, Screening, Suspects
from worker.classifier import Classifier
from worker.detectors.poisoned_samples import bound, chance, margins, p_values
from worker.pipelines import reporting
from worker.pipelines.checkpoints import NOWHERE, Checkpoints, fallen_once
from worker.pipelines.clock import Clock
from worker.pipelines.fall import Fallen
from worker.pipelines.inputs import Loaded, Request, read_inputs
from worker.progress import SILENT, Progress
from worker.samples.unlabelled import ImageSet, read_images

RATES = (0.01, 0.05)
PORTION = 256  # images between two signs of life


@dataclass(frozen=True, slots=True)
class Screened:
    """The report, and the images in its order, most suspicious first."""

    report: Screening
    images: Tensor = field(repr=False)


def screen(
    request: Request, path: Path, progress: Progress = SILENT, checkpoints: Checkpoints = NOWHERE
) -> Screened:
    """Score the images at `path`; changes and writes nothing. Raises `SanitizerError`."""
    clock = Clock()
    torch.manual_seed(request.options.seed)
    with clock.stage(Stage.LOAD):
        loaded = read_inputs(request)
        suspects, warnings = read_images(path, loaded.model.input_shape)
    with clock.stage(Stage.UNLEARN):
        fallen = fallen_once(loaded.suspect, loaded.parts.fit, request.options, progress, checkpoints)
    with clock.stage(Stage.SCORE):
        held = torch.cat([loaded.parts.select.images, loaded.parts.report.images])
        _, clean = _scores(loaded.suspect, fallen, held, progress)
        said, scores = _scores(loaded.suspect, fallen, suspects.images, progress)
    order = scores.argsort(descending=True, stable=True)
    report = _report(request, loaded, suspects, fallen, (said, scores, clean, order), warnings, clock.seconds)
    return Screened(report, suspects.images[order])


def _scores(suspect: Classifier, fallen: Fallen, images: Tensor, progress: Progress) -> tuple[Tensor, Tensor]:
    """What the suspect says of each image, and its score; a sign of life for each portion."""
    unlearned = [run.module for run in fallen.runs]
    found, done = [], 0
    for portion in images.split(PORTION):
        found.append(margins(suspect, unlearned, portion))
        done += len(portion)
        progress.step(Stage.SCORE, done, len(images))
    said, scores = zip(*found, strict=True)
    return torch.cat(said), torch.cat(scores)


def _report(
    request: Request,
    loaded: Loaded,
    suspects: ImageSet,
    fallen: Fallen,
    found: tuple[Tensor, Tensor, Tensor, Tensor],
    warnings: Sequence[Problem],
    timings: dict[str, float],
) -> Screening:
    said, scores, clean, order = found
    p = p_values(scores, clean)
    return Screening(
        model=reporting.model_facts(loaded.model),
        samples=reporting.sample_facts(loaded.clean, loaded.parts),
        suspects=Suspects(name=suspects.name, digest=suspects.digest, n=len(suspects)),
        decisions=tuple(_decision(rate, scores, clean) for rate in RATES),
        scored=tuple(
            Scored(
                name=suspects.names[place],
                said=int(said[place]),
                score=float(scores[place]),
                p_value=float(p[place]),
            )
            for place in order.tolist()
        ),
        calibrated_on=len(clean),
        unlearning=fallen.runs[0].epochs,
        options=request.options,
        seed=request.options.seed,
        environment=reporting.environment(request.placement),
        timings=timings,
        skipped=_skipped(fallen, request),
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


def _skipped(fallen: Fallen, request: Request) -> tuple[Skipped, ...]:
    stuck = sum(not run.reached for run in fallen.runs)
    if not stuck:
        return ()
    reason = (
        f"In {stuck} of {len(fallen.runs)} runs the accuracy did not fall to "
        f"{request.options.unlearn.stop_accuracy}; what is left of the clean task blurs the scores."
    )
    return (Skipped(what="complete unlearning", reason=reason),)
