"""The facts of one job -> its report."""

import platform
from importlib.metadata import version
from typing import TYPE_CHECKING

import torch

from app.contract.findings import Skipped
from app.contract.options import SanitizeOptions
from app.contract.problem import Problem
from app.contract.report import (
    Candidate,
    Environment,
    LabelShares,
    LayerMasks,
    ModelFacts,
    Repair,
    Report,
    SampleFacts,
    TriggeredFacts,
)
from worker.device import Placement
from worker.formats.interface import LoadedModel
from worker.pipelines.measure import Evaluation, against_other_classes
from worker.repair.operating_point import OperatingPoint
from worker.rnp.masks import Filter, FilterMasks, maskable
from worker.samples.interface import CleanSplit, SampleSet, TriggeredSet

if TYPE_CHECKING:
    from worker.pipelines.sanitize import Decision, Loaded, Request

BINS = 20  # of each layer's histogram of masks
METHOD = "RNP prune"
WEAK_WITNESS = Problem(
    code="repair.weak_witness",
    detail="The repair silenced the one signal that accused the model. On a model of ours with a known trigger that "
    "signal fell silent while the attack still succeeded more often than not, so silence does not prove removal.",
    remedy="If you have images with a trigger, give them with --triggered to see what is left; do not deploy the "
    "model where a backdoor would matter on this evidence alone.",
)


def assemble(
    request: "Request",
    loaded: "Loaded",
    decision: "Decision",
    evaluation: Evaluation,
    timings: dict[str, float],
) -> Report:
    """One report; the same facts give the same report but for `timings`."""
    runs, point = decision.examined.runs, decision.point
    return Report(
        model=_model(loaded.model),
        samples=_samples(loaded.clean, loaded.parts),
        triggered=_triggered(evaluation.triggered),
        verdict=decision.verdict,
        outcome=decision.outcome,
        metrics=evaluation.metrics,
        repair=_repair(loaded.model, point, evaluation.candidates),
        unlearning=runs[0].epochs,
        recovering=decision.recovered[0].epochs if decision.recovered else (),
        label_shares=LabelShares(
            suspect=decision.examined.before.label_shares,
            unlearned=runs[0].epochs[-1].label_shares,
            repaired_unlearned=point.label_shares if point else None,
        ),
        masks=_layers(decision.masks, decision.chosen),
        options=request.options,
        seed=request.options.seed,
        environment=_environment(request.placement),
        timings=timings,
        skipped=_skipped(decision, evaluation, request.options),
        warnings=(*loaded.warnings, *((WEAK_WITNESS,) if decision.chosen else ())),
        result_digest=loaded.model.stored.digest,
        reproduce=request.reproduce,
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


def _repair(model: LoadedModel, point: OperatingPoint | None, candidates: tuple[Candidate, ...]) -> Repair:
    chosen = candidates[point.chosen] if point is not None and point.chosen is not None else None
    return Repair(
        method=METHOD if chosen else "none",
        pruned=chosen.pruned if chosen else 0,
        filters=sum(maskable(model.module).values()),
        threshold=chosen.threshold if chosen else None,
        chosen=point.chosen if point else None,
        best_candidate=point.best if point else None,
        reason=point.reason if point else "No evidence was found, so nothing was changed.",
        candidates=candidates,
    )


def _layers(masks: FilterMasks | None, dead: tuple[Filter, ...]) -> tuple[LayerMasks, ...]:
    return tuple(
        LayerMasks(
            parameter=name,
            filters=len(values),
            pruned=sum(f.parameter == name for f in dead),
            histogram=tuple(int(n) for n in torch.histc(values, BINS, 0, 1).tolist()),
        )
        for name, values in (masks.values.items() if masks else ())
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


def _skipped(decision: "Decision", evaluation: Evaluation, options: SanitizeOptions) -> tuple[Skipped, ...]:
    skipped = []
    if evaluation.triggered is None:
        skipped.append(Skipped(what="attack success", reason="No triggered samples were given."))
    if decision.point is None:
        reason = "The unlearned model showed no evidence."
        skipped.append(Skipped(what="recovering, pruning and the operating point", reason=reason))
    stuck = sum(not run.reached for run in decision.examined.runs)
    if stuck:
        reason = (
            f"In {stuck} of {len(decision.examined.runs)} runs the accuracy did not fall to "
            f"{options.unlearn.stop_accuracy} in {options.unlearn.max_epochs} epochs; what follows is less certain."
        )
        skipped.append(Skipped(what="complete unlearning", reason=reason))
    return tuple(skipped)
