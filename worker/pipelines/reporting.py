"""The facts of one job -> its report."""

import math
import platform
from importlib.metadata import version
from typing import Literal

import torch

from app.contract.changes import Edits
from app.contract.findings import Skipped
from app.contract.options import EvidenceOptions, SanitizeOptions
from app.contract.problem import Problem
from app.contract.report import (
    Candidate,
    Environment,
    Firm,
    LabelShares,
    LayerMasks,
    Metrics,
    ModelFacts,
    Perturbation,
    Repair,
    Report,
    SampleFacts,
    TriggeredFacts,
)
from app.reports.numerals import change_interval, count, points
from worker.detectors.perturbation import ELSEWHERE, relative_size
from worker.device import Placement
from worker.formats.interface import LoadedModel
from worker.pipelines.decision import Decision
from worker.pipelines.examine import Examined
from worker.pipelines.inputs import Loaded, Request
from worker.pipelines.measure import Evaluation, Success, against_other_classes
from worker.pipelines.pictures import pictures
from worker.repair.operating_point import OperatingPoint
from worker.rnp.masks import Filter, FilterMasks, maskable
from worker.samples.interface import CleanSplit, SampleSet, TriggeredSet

BINS = 20  # of each layer's histogram of masks
Kind = Literal["sanitize", "detect"]
NOT_ASKED: dict[Kind, str] = {
    "sanitize": "No evidence was found, so nothing was changed.",
    "detect": "Only detection was asked for.",
}
NOT_PROVEN = Problem(
    code="repair.not_proven",
    detail="The repair silenced every signal that accused the model. Silence is not proof of removal: on models of "
    "ours with a known trigger the attack still succeeded on some images after a repair that silenced them all.",
    remedy="If you have images with a trigger, give them with --triggered to see what is left.",
)

WITHOUT_BATCHNORM = Skipped(
    what="evidence from unlearning",
    reason="Nothing in the model normalises by the batch; when they are unlearned, such models fall onto one class, "
    "clean or not.",
)

SUPPRESSED = Problem(
    code="repair.suppressed",
    detail="No perturbation finds the backdoor any more, but when the repaired model is unlearned it still falls onto "
    "the suspected class: the repair keeps the backdoor from answering, and something of it is still in the weights.",
    remedy="Do not fine-tune the repaired model on data that you do not trust, since little may bring it back.",
)

MEASURE_AGAIN = "Compare both models on other clean images. More of them here usually make a repair cheaper."


def assemble(
    request: Request,
    loaded: Loaded,
    decision: Decision,
    evaluation: Evaluation,
    edits: Edits,
    timings: dict[str, float],
    kind: Kind = "sanitize",
) -> Report:
    """One report; the same facts give the same report but for `timings`."""
    examined, chosen = decision.examined, decision.chosen
    runs = examined.fallen.runs
    return Report(
        kind=kind,
        model=model_facts(loaded.model),
        samples=sample_facts(loaded.clean, loaded.parts),
        triggered=_triggered(evaluation.triggered),
        verdict=decision.verdict,
        outcome=decision.outcome,
        metrics=evaluation.metrics,
        repair=_repair(kind, loaded.model, decision.point, evaluation.candidates, edits),
        unlearning=runs[0].epochs,
        recovering=decision.recovered[0].epochs if decision.recovered else (),
        label_shares=LabelShares(
            suspect=examined.fallen.before.label_shares,
            unlearned=runs[0].epochs[-1].label_shares,
            repaired_unlearned=chosen.label_shares if chosen else None,
        ),
        perturbations=_perturbations(
            examined, evaluation, loaded.parts.select, request.options.evidence, repaired=chosen is not None
        ),
        masks=_layers(decision.masks, chosen.filters if chosen else ()),
        options=request.options,
        seed=request.options.seed,
        environment=environment(request.placement),
        timings=timings,
        skipped=_skipped(kind, decision, evaluation, request.options),
        warnings=(*loaded.warnings, *_doubts(decision, evaluation.metrics, request.options)),
        result_digest=loaded.model.stored.digest,
        reproduce=request.reproduce,
    )


def model_facts(model: LoadedModel) -> ModelFacts:
    """What was uploaded, and how it was understood."""
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


def sample_facts(clean: SampleSet, parts: CleanSplit) -> SampleFacts:
    """The clean samples, and how they were divided."""
    return SampleFacts(
        name=clean.name,
        digest=clean.digest,
        n=len(clean),
        class_names=clean.class_names,
        per_class=tuple(torch.bincount(clean.labels, minlength=len(clean.class_names)).tolist()),
        fit=len(parts.fit),
        select=len(parts.select),
        report=len(parts.report),
        mirrors=parts.fit.mirrors,
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


def _repair(
    kind: Kind,
    model: LoadedModel,
    point: OperatingPoint | None,
    candidates: tuple[Candidate, ...],
    edits: Edits,
) -> Repair:
    chosen = candidates[point.chosen] if point is not None and point.chosen is not None else None
    return Repair(
        method=method(chosen) if chosen else "none",
        pruned=chosen.pruned if chosen else 0,
        filters=sum(maskable(model.module).values()),
        relearned=edits.relearned,
        threshold=chosen.threshold if chosen else None,
        chosen=point.chosen if point else None,
        best_candidate=point.best if point else None,
        reason=point.reason if point else NOT_ASKED[kind],
        candidates=candidates,
    )


def method(repair: Candidate) -> str:
    """What a repair is called."""
    if repair.rung == "prune":
        return "RNP prune"
    return "RNP prune, then relearn the rest" if repair.pruned else "relearn"


def _perturbations(
    examined: Examined,
    evaluation: Evaluation,
    select: SampleSet,
    options: EvidenceOptions,
    *,
    repaired: bool,
) -> tuple[Perturbation, ...]:
    """Smallest first; only those into suspected classes are drawn."""
    accused = examined.accused(options)
    reported = [
        Perturbation(
            target_class=None if found.target_class == ELSEWHERE else found.target_class,
            form=found.form.value,
            size=found.size if math.isfinite(found.size) else None,
            relative_size=relative_size(found, examined.perturbations),
            success=success.found.before,
            after=success.found.after if repaired else None,
            firm=_firm(success, repaired=repaired),
            pictures=pictures(found, select) if found in accused else (),
        )
        for found, success in zip(examined.perturbations, evaluation.successes, strict=True)
    ]
    return tuple(sorted(reported, key=lambda p: p.relative_size))


def _firm(success: Success, *, repaired: bool) -> Firm | None:
    if success.firmly is None:
        return None
    then = success.firmly
    return Firm(times=success.times, success=then.before, after=then.after if repaired else None)


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


def environment(placement: Placement) -> Environment:
    """What the numbers depend on, besides the inputs."""
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


def _doubts(decision: Decision, metrics: Metrics, options: SanitizeOptions) -> tuple[Problem, ...]:
    """What a repair does not show, and what it costs beyond the budget."""
    if decision.chosen is None:
        return ()
    repair, change, doubts = decision.chosen.candidate, metrics.clean_change, [NOT_PROVEN]
    if repair.evidence is not None and repair.evidence > options.evidence.label_shift:
        doubts.append(SUPPRESSED)
    budget = -options.prune.accuracy_budget
    if repair.taught_again and change.value < budget:
        detail = (
            f"On the reporting images clean accuracy changes by {points(change.value)} (95 % interval "
            f"{change_interval(change)}, n = {count(change.n)}); the budget is {points(budget)}. It was kept when "
            "the selecting images measured it; they have taught the repair since, and no others decide on its cost."
        )
        doubts.append(Problem(code="repair.dearer", detail=detail, remedy=MEASURE_AGAIN))
    return tuple(doubts)


def _skipped(
    kind: Kind, decision: Decision, evaluation: Evaluation, options: SanitizeOptions
) -> tuple[Skipped, ...]:
    skipped = []
    if evaluation.triggered is None:
        skipped.append(Skipped(what="attack success", reason="No triggered samples were given."))
    if decision.point is None:
        reason = NOT_ASKED[kind]
        skipped.append(Skipped(what="recovering, pruning and the operating point", reason=reason))
    runs = decision.examined.fallen.runs
    stuck = sum(not run.reached for run in runs)
    if stuck:
        reason = (
            f"In {stuck} of {len(runs)} runs the accuracy did not fall to "
            f"{options.unlearn.stop_accuracy} in {options.unlearn.max_epochs} epochs; what follows is less certain."
        )
        skipped.append(Skipped(what="complete unlearning", reason=reason))
    if not decision.examined.fallen.follows_batches:
        skipped.append(WITHOUT_BATCHNORM)
    if decision.examined.cleared:
        reason = "A closer look found no small perturbation into them, so no repair aimed at them."
        named = ", ".join(map(str, sorted(decision.examined.cleared)))
        skipped.append(Skipped(what=f"repairing what leads into the classes {named}", reason=reason))
    classes = len(decision.examined.fallen.before.label_shares)
    looked_at = len(decision.examined.sizes.keys() - {ELSEWHERE})
    if looked_at < classes:
        reason = f"Perturbations were recovered for the {looked_at} most suspected of {classes} classes."
        skipped.append(Skipped(what="perturbations into the other classes", reason=reason))
    return tuple(skipped)
