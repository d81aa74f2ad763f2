"""The product: load → unlearn → recover → choose → verify → report.

START READING HERE. One call of `sanitize` is one job: it reads the suspect model and the clean samples, decides
without any triggered sample, and returns what is to be written. Triggered samples, if given, are opened only after
everything is decided, and only `measure` ever sees them.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from app.contract.changes import Edit
from app.contract.findings import Verdict
from app.contract.job import Stage
from app.contract.options import SanitizeOptions
from app.contract.problem import Problem
from app.contract.report import Epoch, Outcome, Report
from app.errors import ModelError
from worker.classifier import Classifier, label_shares
from worker.device import Placement
from worker.formats import normalisation
from worker.formats.interface import LoadedModel
from worker.formats.load import load
from worker.pipelines import measure, reporting
from worker.progress import SILENT, As, Progress
from worker.repair.edits import edits_of, replay
from worker.repair.evidence import LabelShift, label_shift
from worker.repair.operating_point import OperatingPoint, choose
from worker.repair.verdict import judge, shows_evidence
from worker.rnp.masks import FilterMasks
from worker.rnp.prune import prune
from worker.rnp.recover import recover
from worker.rnp.unlearn import Unlearned, unlearn
from worker.samples.interface import CleanSplit, SampleSet, TriggeredSet
from worker.samples.read import read_samples, read_triggered
from worker.samples.split import split, thin_parts

LEARNED = 0.1  # share of the way from chance to perfect that a model must go to be worth looking at


@dataclass(frozen=True, slots=True)
class Request:
    """What one job is given."""

    model: Path
    samples: Path
    options: SanitizeOptions
    placement: Placement
    triggered: Path | None = None
    triggered_target: int | None = None
    reproduce: str = ""


@dataclass(frozen=True, slots=True)
class Sanitized:
    """What one job leaves: the report needs only the digest of the file that is written from `tensors`."""

    model: LoadedModel
    tensors: dict[str, Tensor]  # what is given back, under the keys of the file
    edits: tuple[Edit, ...]  # none when the model is given back as it came
    best_edits: tuple[Edit, ...]  # of the least bad candidate, when none passed
    outcome: Outcome
    report: Report  # its result_digest is the suspect's until the file is written


@dataclass(frozen=True, slots=True)
class Examined:
    """What is known once the suspect has been unlearned."""

    before: Epoch  # the suspect itself, measured like an epoch
    runs: tuple[Unlearned, ...]  # one for each seed; the first feeds the later stages
    shift: LabelShift | None


def sanitize(request: Request, progress: Progress = SILENT) -> Sanitized:
    """Run one job. Raises `SanitizerError` with a problem's code, detail and remedy; mutates and writes nothing."""
    options, clock = request.options, Clock()
    with clock.stage(Stage.LOAD):
        model, clean, warnings = _load(request)
        parts = split(clean, options.split.fit, options.split.select, options.seed)
        suspect = _classifier(model, request.placement)
    with clock.stage(Stage.UNLEARN):
        examined = _examine(suspect, parts.fit, options, progress)
    verdict = judge(examined.shift, options.evidence.threshold)
    recovered, point = None, None
    if shows_evidence(verdict):
        with clock.stage(Stage.RECOVER):
            unlearned = suspect.with_module(examined.runs[0].module)
            recovered = recover(unlearned, parts.fit, options.recover, options.seed, progress)
        with clock.stage(Stage.CHOOSE):
            point = _choose(suspect, recovered.masks, parts, options, progress)
    chosen = point.filters[point.chosen] if point is not None and point.chosen is not None else ()
    best = point.filters[point.best] if point is not None and point.best is not None else ()
    repaired = suspect.with_module(prune(suspect, chosen)) if chosen else suspect
    with clock.stage(Stage.VERIFY):
        again = _examine(repaired, parts.fit, options, As(progress, Stage.VERIFY)) if chosen else None
        triggered = _triggered(request, model, clean.class_names)
        metrics = measure.metrics(suspect, repaired, parts.report, triggered)
        candidates = measure.evaluate_candidates(suspect, point, triggered)
    edits = edits_of(chosen, model.stored.tensors, model.stored_key)
    outcome = _outcome(verdict, edits)
    report = reporting.assemble(
        reporting.Facts(
            model=model,
            clean=clean,
            parts=parts,
            triggered=triggered,
            verdict=verdict,
            outcome=outcome,
            metrics=metrics,
            before=examined.before,
            unlearned=examined.runs[0],
            recovered=recovered,
            point=point,
            candidates=candidates,
            again=again.runs[0] if again else None,
            options=options,
            placement=request.placement,
            timings=clock.seconds,
            warnings=(*warnings, *thin_parts(parts)),
            reproduce=request.reproduce,
        )
    )
    return Sanitized(
        model=model,
        tensors=replay(edits, model.stored.tensors),
        edits=edits,
        best_edits=edits_of(best, model.stored.tensors, model.stored_key),
        outcome=outcome,
        report=report,
    )


def _load(request: Request) -> tuple[LoadedModel, SampleSet, tuple[Problem, ...]]:
    """The suspect with its normalisation, the clean samples and what there is to warn of."""
    options = request.options
    model = load(request.model, options.architecture, options.input_size)
    clean, warnings = read_samples(request.samples, model.num_classes, model.input_shape)
    pixels = (
        normalisation.parse(options.normalize, model.input_shape[0])
        if options.normalize
        else normalisation.choose(model.module, clean.images, clean.labels)
    )
    return replace(model, normalisation=pixels), clean, warnings


def _classifier(model: LoadedModel, placement: Placement) -> Classifier:
    pixels = model.normalisation
    module = placement.take(model.module)

    def constants(values: tuple[float, ...]) -> Tensor:
        return torch.tensor(values, device=placement.device).view(1, -1, 1, 1)

    return Classifier(module, model.num_classes, constants(pixels.mean), constants(pixels.std), placement)


def _examine(suspect: Classifier, fit: SampleSet, options: SanitizeOptions, progress: Progress) -> Examined:
    """Unlearn a model and see where its predictions went. Raises `ModelError` when there is nothing to unlearn."""
    predictions = suspect.predictions(fit.images)
    accuracy = (predictions == fit.labels).double().mean().item()
    chance = 1 / suspect.num_classes
    if accuracy < chance + LEARNED * (1 - chance):
        raise ModelError(
            f"The model gets {accuracy:.1%} of {len(fit)} clean samples right, and chance alone gets {chance:.1%}.",
            code="model.at_chance",
            remedy="Check the order of the classes (classes.json), --normalize and --architecture, and that the "
            "samples are of the task that the model was trained for.",
        )
    before = Epoch(
        number=0,
        lr=0,
        loss=0,
        accuracy=accuracy,
        held_accuracy=accuracy,
        label_shares=label_shares(predictions, suspect.num_classes),
    )
    seeds = range(options.seed, options.seed + options.evidence.seeds)
    runs = tuple(unlearn(suspect, fit, options.unlearn, seed, progress) for seed in seeds)
    return Examined(before, runs, label_shift(before, [run.epochs for run in runs]))


def _triggered(request: Request, model: LoadedModel, class_names: tuple[str, ...]) -> TriggeredSet | None:
    if request.triggered is None:
        return None
    return read_triggered(
        request.triggered, model.num_classes, model.input_shape, request.triggered_target, class_names
    )


def _choose(
    suspect: Classifier, masks: FilterMasks, parts: CleanSplit, options: SanitizeOptions, progress: Progress
) -> OperatingPoint:
    def leaves_no_evidence(module: nn.Module) -> tuple[float, bool]:
        again = _examine(suspect.with_module(module), parts.fit, options, As(progress, Stage.VERIFY))
        shift = again.shift
        left = shift.value if shift else 0.0
        return left, left <= options.evidence.threshold

    return choose(suspect, masks, parts.select, options.prune, leaves_no_evidence, progress)


def _outcome(verdict: Verdict, edits: tuple[Edit, ...]) -> Outcome:
    if edits:
        return Outcome.REPAIRED
    return Outcome.NOT_REPAIRED if shows_evidence(verdict) else Outcome.UNCHANGED


class Clock:
    """Seconds per stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, stage: Stage) -> Iterator[None]:
        """Measure one stage."""
        started = time.perf_counter()
        yield
        self.seconds[f"{stage.value}_s"] = time.perf_counter() - started
        self.seconds["total_s"] = sum(s for name, s in self.seconds.items() if name != "total_s")
