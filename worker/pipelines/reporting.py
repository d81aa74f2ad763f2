"""The facts of one job -> its report."""

import platform
from dataclasses import dataclass
from importlib.metadata import version

import torch

from app.contract.findings import Skipped, Verdict
from app.contract.options import SanitizeOptions
from app.contract.problem import Problem
from app.contract.report import (
    Candidate,
    Environment,
    Epoch,
    LabelShares,
    LayerMasks,
    Metrics,
    ModelFacts,
    Outcome,
    Repair,
    Report,
    SampleFacts,
    TriggeredFacts,
)
from worker.device import Placement
from worker.formats.interface import LoadedModel
from worker.pipelines.measure import against_other_classes
from worker.repair.operating_point import OperatingPoint
from worker.rnp.masks import FilterMasks, maskable
from worker.rnp.recover import Recovered
from worker.rnp.unlearn import Unlearned
from worker.samples.interface import CleanSplit, SampleSet, TriggeredSet

BINS = 20  # of each layer's histogram of masks
METHOD = "RNP prune"


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that a report is made of; None where a stage was not reached."""

    model: LoadedModel
    clean: SampleSet
    parts: CleanSplit
    triggered: TriggeredSet | None
    verdict: Verdict
    outcome: Outcome
    metrics: Metrics
    before: Epoch
    unlearned: Unlearned
    recovered: Recovered | None
    point: OperatingPoint | None
    candidates: tuple[Candidate, ...]
    again: Unlearned | None  # the repaired model, unlearned in its turn
    options: SanitizeOptions
    placement: Placement
    timings: dict[str, float]
    warnings: tuple[Problem, ...]
    reproduce: str


def assemble(facts: Facts) -> Report:
    """One report; the same facts give the same report but for `timings`."""
    return Report(
        model=_model(facts.model),
        samples=_samples(facts.clean, facts.parts),
        triggered=_triggered(facts.triggered),
        verdict=facts.verdict,
        outcome=facts.outcome,
        metrics=facts.metrics,
        repair=_repair(facts),
        unlearning=facts.unlearned.epochs,
        recovering=facts.recovered.epochs if facts.recovered else (),
        label_shares=LabelShares(
            suspect=facts.before.label_shares,
            unlearned=facts.unlearned.epochs[-1].label_shares,
            repaired_unlearned=facts.again.epochs[-1].label_shares if facts.again else None,
        ),
        masks=_layers(facts),
        options=facts.options,
        seed=facts.options.seed,
        environment=_environment(facts.placement),
        timings=facts.timings,
        skipped=_skipped(facts),
        warnings=facts.warnings,
        result_digest=facts.model.stored.digest,
        reproduce=facts.reproduce,
    )


def _model(model: LoadedModel) -> ModelFacts:
    return ModelFacts(
        name=model.stored.path.name,
        digest=model.stored.digest,
        size=model.stored.size,
        format=model.stored.format,
        architecture=model.architecture,
        identified=model.identified,
        num_classes=model.num_classes,
        input_shape=model.input_shape,
        parameters=sum(p.numel() for p in model.module.parameters()),
        filters=sum(maskable(model.module).values()),
        normalisation=model.normalisation,
    )


def _samples(clean: SampleSet, parts: CleanSplit) -> SampleFacts:
    return SampleFacts(
        name=clean.name,
        digest=clean.digest,
        n=len(clean),
        class_names=clean.class_names,
        per_class=tuple(torch.bincount(clean.labels, minlength=len(clean.class_names)).tolist()),
        fit=len(parts.fit),
        select=len(parts.select),
        report=len(parts.report),
    )


def _triggered(triggered: TriggeredSet | None) -> TriggeredFacts | None:
    if triggered is None:
        return None
    return TriggeredFacts(
        name=triggered.name,
        digest=triggered.digest,
        n=len(triggered),
        n_evaluated=len(against_other_classes(triggered)),
    )


def _repair(facts: Facts) -> Repair:
    point = facts.point
    chosen = facts.candidates[point.chosen] if point is not None and point.chosen is not None else None
    return Repair(
        method=METHOD if chosen else "none",
        pruned=chosen.pruned if chosen else 0,
        filters=sum(maskable(facts.model.module).values()),
        threshold=chosen.threshold if chosen else None,
        chosen=point.chosen if point else None,
        best_candidate=point.best if point else None,
        reason=point.reason if point else "No evidence was found, so nothing was changed.",
        candidates=facts.candidates,
    )


def _layers(facts: Facts) -> tuple[LayerMasks, ...]:
    if facts.recovered is None:
        return ()
    masks: FilterMasks = facts.recovered.masks
    point = facts.point
    dead = point.filters[point.chosen] if point is not None and point.chosen is not None else ()
    return tuple(
        LayerMasks(
            parameter=name,
            filters=len(values),
            pruned=sum(f.parameter == name for f in dead),
            histogram=tuple(int(n) for n in torch.histc(values, BINS, 0, 1).tolist()),
        )
        for name, values in masks.values.items()
    )


def _environment(placement: Placement) -> Environment:
    return Environment(
        product=version("model-sanitizer"),
        python=platform.python_version(),
        torch=torch.__version__,
        platform=f"{platform.system()} {platform.machine()}",
        device=torch.cuda.get_device_name(placement.device) if placement.device.type == "cuda" else "cpu",
        precision=str(placement.precision).removeprefix("torch."),
        memory_format=str(placement.memory_format).removeprefix("torch."),
        threads=torch.get_num_threads(),
    )


def _skipped(facts: Facts) -> tuple[Skipped, ...]:
    skipped = []
    if facts.triggered is None:
        skipped.append(Skipped(what="attack success", reason="No triggered samples were given."))
    if facts.recovered is None:
        reason = "The unlearned model showed no evidence."
        skipped.append(Skipped(what="recovering, pruning and the operating point", reason=reason))
    if not facts.unlearned.reached:
        reason = (
            f"Accuracy did not fall to {facts.options.unlearn.stop_accuracy} in "
            f"{facts.options.unlearn.max_epochs} epochs; what follows from the unlearned model is unreliable."
        )
        skipped.append(Skipped(what="complete unlearning", reason=reason))
    return tuple(skipped)
