"""Only looking: load → unlearn → perturb → report. The first half of `sanitize`; nothing is changed or given back."""

import torch

from app.contract.changes import Edits
from app.contract.job import Stage
from app.contract.options import SanitizeOptions
from app.contract.report import Report
from worker.detectors.verdict import shows_evidence
from worker.pipelines import measure, reporting
from worker.pipelines.checkpoints import NOWHERE, Checkpoints
from worker.pipelines.clock import Clock
from worker.pipelines.decision import Decision
from worker.pipelines.doubt import examine_twice
from worker.pipelines.examine import Examined, look_closely, rests_on_size, upheld
from worker.pipelines.hear import Hearing, hear
from worker.pipelines.inputs import Loaded, Request, read_evaluation, read_inputs
from worker.progress import SILENT, Progress


def detect(request: Request, progress: Progress = SILENT, checkpoints: Checkpoints = NOWHERE) -> Report:
    """Run one job. Raises `SanitizerError` with a problem's code, detail and remedy; mutates and writes nothing."""
    clock = Clock()
    torch.manual_seed(request.options.seed)  # as `sanitize` does, so that both see the same
    with clock.stage(Stage.LOAD):
        loaded = read_inputs(request)
        read_evaluation(request, loaded)
    hearing = hear(loaded.suspect, loaded.parts.fit, request.options, clock, progress, checkpoints)
    decision = Decision(_examined(loaded, hearing, request.options, clock, progress))
    with clock.stage(Stage.VERIFY):
        triggered = read_evaluation(request, loaded)
        evaluation = measure.evaluate(
            loaded.suspect, loaded.suspect, decision, loaded.parts, triggered, request.options
        )
    return reporting.assemble(request, loaded, decision, evaluation, Edits(), clock.seconds, kind="detect")


def _examined(
    loaded: Loaded, hearing: Hearing, options: SanitizeOptions, clock: Clock, progress: Progress
) -> Examined:
    """As a repair would see it; looked at closely only where that may change the verdict."""
    evidence = options.evidence
    with clock.stage(Stage.PERTURB):
        examined = examine_twice(loaded, hearing, options, progress)
    if not shows_evidence(examined.verdict) or not rests_on_size(hearing, examined.verdict, evidence):
        return examined
    with clock.stage(Stage.PERTURB):
        looked = look_closely(loaded.suspect, loaded.parts.fit, examined, options, progress)
    return upheld(hearing, looked, evidence)
