"""The product: load → unlearn → perturb → recover → choose → verify → report.

START READING HERE. One call of `sanitize` is one job: it reads the suspect model and the clean samples, decides
without any triggered sample, and returns what is to be written. Triggered samples, if given, are checked at the start,
opened again after everything is decided, and only `measure` ever sees them. `detect` is the first half of it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from app.contract.changes import Edits
from app.contract.job import Stage
from app.contract.options import SanitizeOptions
from app.contract.report import Outcome, Report
from worker.detectors.verdict import shows_evidence
from worker.formats.interface import LoadedModel
from worker.pipelines import measure, reporting
from worker.pipelines.checkpoints import NOWHERE, Checkpoints
from worker.pipelines.clock import Clock
from worker.pipelines.decision import Decision
from worker.pipelines.doubt import examine_twice
from worker.pipelines.examine import look_closely, upheld
from worker.pipelines.hear import hear
from worker.pipelines.inputs import Loaded, Request, read_evaluation, read_inputs
from worker.pipelines.ladder import ladder
from worker.progress import SILENT, Progress
from worker.repair.edits import edits_of, replay
from worker.repair.gate import Considered
from worker.repair.operating_point import choose
from worker.rnp.masks import mean
from worker.rnp.recover import recover


@dataclass(frozen=True, slots=True)
class Sanitized:
    """What one job leaves: the report needs only the digest of the file that is written from `tensors`."""

    model: LoadedModel
    tensors: dict[str, Tensor]  # what is given back, under the keys of the file
    edits: Edits  # none when the model is given back as it came
    best_edits: Edits  # of the least bad candidate, when none passed
    outcome: Outcome
    report: Report  # its result_digest is the suspect's until the file is written


def sanitize(request: Request, progress: Progress = SILENT, checkpoints: Checkpoints = NOWHERE) -> Sanitized:
    """Run one job. Raises `SanitizerError` with a problem's code, detail and remedy; mutates and writes nothing."""
    clock = Clock()
    torch.manual_seed(request.options.seed)  # dropout, where it is left on, draws from the global state
    with clock.stage(Stage.LOAD):
        loaded = read_inputs(request)
        read_evaluation(request, loaded)  # refused now rather than when all is done; nothing of them is kept
    decision = decide(loaded, request.options, clock, progress, checkpoints)
    suspect, chosen = loaded.suspect, decision.chosen
    repaired = suspect.with_module(chosen.module(suspect)) if chosen else suspect
    with clock.stage(Stage.VERIFY):
        triggered = read_evaluation(request, loaded)
        evaluation = measure.evaluate(suspect, repaired, decision, loaded.parts, triggered, request.options)
    model, stored = loaded.model, loaded.model.stored.tensors
    edits = _edits(decision.chosen, model)
    return Sanitized(
        model=model,
        tensors=replay(edits, stored),
        edits=edits,
        best_edits=_edits(decision.best, model),
        outcome=decision.outcome,
        report=reporting.assemble(request, loaded, decision, evaluation, edits, clock.seconds),
    )


def decide(
    loaded: Loaded,
    options: SanitizeOptions,
    clock: Clock,
    progress: Progress = SILENT,
    checkpoints: Checkpoints = NOWHERE,
) -> Decision:
    """Hear, examine, recover and choose. No triggered sample can reach this function."""
    suspect, parts = loaded.suspect, loaded.parts
    hearing = hear(suspect, parts.fit, options, clock, progress, checkpoints)
    with clock.stage(Stage.PERTURB):
        examined = examine_twice(loaded, hearing, options, progress)
    if not shows_evidence(examined.verdict):
        return Decision(examined)
    with clock.stage(Stage.PERTURB):
        looked = look_closely(suspect, parts.fit, examined, options, progress)
        examined = upheld(hearing, looked, options.evidence)
    if not shows_evidence(examined.verdict):
        return Decision(examined)
    with clock.stage(Stage.RECOVER):
        recovered = tuple(
            recover(suspect.with_module(run.module), parts.fit, options.recover, seed, progress)
            for seed, run in enumerate(examined.fallen.runs, options.seed)
        )
    masks = mean([run.masks for run in recovered])
    with clock.stage(Stage.CHOOSE):
        point = choose(
            suspect,
            masks,
            parts.select,
            options.prune,
            ladder(loaded, examined, options, progress),
            progress,
        )
    return Decision(examined, recovered, masks, point)


def _edits(repair: Considered | None, model: LoadedModel) -> Edits:
    """What a repair writes into the file; nothing where there is none."""
    if repair is None:
        return Edits()
    relearned = repair.relearned.named_parameters() if repair.relearned else ()
    values = {name: parameter.detach() for name, parameter in relearned}
    return edits_of(repair.filters, values, model.stored.tensors, model.stored_key)
