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
from worker.repair.evidence import LabelShift, Remaining, label_shift, remaining
from worker.repair.operating_point import OperatingPoint, choose
from worker.repair.verdict import judge, shows_evidence
from worker.rnp.masks import Filter, FilterMasks, mean
from worker.rnp.prune import prune
from worker.rnp.recover import Recovered, recover
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
class Loaded:
    """The inputs, read and understood."""

    model: LoadedModel
    suspect: Classifier
    clean: SampleSet
    parts: CleanSplit
    warnings: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class Examined:
    """What unlearning a model, once for each seed, showed."""

    before: Epoch  # the model itself, measured like an epoch
    runs: tuple[Unlearned, ...]
    shift: LabelShift | None


@dataclass(frozen=True, slots=True)
class Decision:
    """Everything that was decided without triggered samples; None where a stage was not reached."""

    examined: Examined
    verdict: Verdict
    recovered: tuple[Recovered, ...]  # one for each seed
    masks: FilterMasks | None
    point: OperatingPoint | None

    @property
    def chosen(self) -> tuple[Filter, ...]:
        """The filters that are pruned."""
        return self._filters(self.point.chosen if self.point else None)

    @property
    def best(self) -> tuple[Filter, ...]:
        """The filters of the least bad candidate, when none passed."""
        return self._filters(self.point.best if self.point else None)

    @property
    def outcome(self) -> Outcome:
        """What became of the repair."""
        if self.chosen:
            return Outcome.REPAIRED
        return Outcome.NOT_REPAIRED if shows_evidence(self.verdict) else Outcome.UNCHANGED

    def _filters(self, index: int | None) -> tuple[Filter, ...]:
        return self.point.filters[index] if self.point and index is not None else ()


@dataclass(frozen=True, slots=True)
class Sanitized:
    """What one job leaves: the report needs only the digest of the file that is written from `tensors`."""

    model: LoadedModel
    tensors: dict[str, Tensor]  # what is given back, under the keys of the file
    edits: tuple[Edit, ...]  # none when the model is given back as it came
    best_edits: tuple[Edit, ...]  # of the least bad candidate, when none passed
    outcome: Outcome
    report: Report  # its result_digest is the suspect's until the file is written


def sanitize(request: Request, progress: Progress = SILENT) -> Sanitized:
    """Run one job. Raises `SanitizerError` with a problem's code, detail and remedy; mutates and writes nothing."""
    clock = Clock()
    torch.manual_seed(request.options.seed)  # dropout, where it is left on, draws from the global state
    with clock.stage(Stage.LOAD):
        loaded = _load(request)
    decision = decide(loaded.suspect, loaded.parts, request.options, clock, progress)
    repaired = loaded.suspect.with_module(prune(loaded.suspect, decision.chosen))
    model, stored = loaded.model, loaded.model.stored.tensors
    with clock.stage(Stage.VERIFY):
        triggered = _triggered(request, loaded)
        evaluation = measure.evaluate(
            loaded.suspect, repaired, decision.point, loaded.parts.report, triggered
        )
    edits = edits_of(decision.chosen, stored, model.stored_key)
    return Sanitized(
        model=model,
        tensors=replay(edits, stored),
        edits=edits,
        best_edits=edits_of(decision.best, stored, model.stored_key),
        outcome=decision.outcome,
        report=reporting.assemble(request, loaded, decision, evaluation, clock.seconds),
    )


def decide(
    suspect: Classifier,
    parts: CleanSplit,
    options: SanitizeOptions,
    clock: "Clock",
    progress: Progress = SILENT,
) -> Decision:
    """Unlearn, recover and choose. No triggered sample can reach this function."""
    with clock.stage(Stage.UNLEARN):
        examined = _examine(suspect, parts.fit, options, progress)
    verdict = judge(examined.shift, options.evidence.threshold)
    if examined.shift is None or not shows_evidence(verdict):
        return Decision(examined, verdict, (), None, None)
    with clock.stage(Stage.RECOVER):
        recovered = tuple(
            recover(suspect.with_module(run.module), parts.fit, options.recover, seed, progress)
            for seed, run in enumerate(examined.runs, options.seed)
        )
    masks = mean([run.masks for run in recovered])
    suspected = examined.shift

    def evidence_left(module: nn.Module) -> Remaining:
        again = _examine(suspect.with_module(module), parts.fit, options, As(progress, Stage.VERIFY))
        shares = again.runs[0].epochs[-1].label_shares
        return remaining(suspected, again.shift, shares, options.evidence)

    with clock.stage(Stage.CHOOSE):
        point = choose(suspect, masks, parts.select, options.prune, evidence_left, progress)
    return Decision(examined, verdict, recovered, masks, point)


def _triggered(request: Request, loaded: Loaded) -> TriggeredSet | None:
    if request.triggered is None:
        return None
    return read_triggered(
        request.triggered,
        loaded.model.num_classes,
        loaded.model.input_shape,
        request.triggered_target,
        loaded.clean.class_names,
    )


def _load(request: Request) -> Loaded:
    """The suspect with its normalisation, the clean samples, divided, and what there is to warn of."""
    options = request.options
    model = load(request.model, options.architecture, options.input_size)
    clean, warnings = read_samples(request.samples, model.num_classes, model.input_shape)
    parts = split(clean, options.split.fit, options.split.select, options.seed)
    pixels = (
        normalisation.parse(options.normalize, model.input_shape[0])
        if options.normalize
        else normalisation.choose(model.module, parts.fit.images, parts.fit.labels)
    )
    model = replace(model, normalisation=pixels)
    suspect = _classifier(model, request.placement)
    return Loaded(model, suspect, clean, parts, (*warnings, *thin_parts(parts)))


def _classifier(model: LoadedModel, placement: Placement) -> Classifier:
    def constants(values: tuple[float, ...]) -> Tensor:
        return torch.tensor(values, device=placement.device).view(1, -1, 1, 1)

    mean_of, std_of = constants(model.normalisation.mean), constants(model.normalisation.std)
    return Classifier(placement.take(model.module), model.num_classes, mean_of, std_of, placement)


def _examine(suspect: Classifier, fit: SampleSet, options: SanitizeOptions, progress: Progress) -> Examined:
    """Unlearn a model and see where its predictions go. Raises `ModelError` when there is nothing to unlearn."""
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
