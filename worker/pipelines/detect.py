"""Only looking: load → unlearn → perturb → report. The first half of `sanitize`; nothing is changed or given back."""

import torch

from app.contract.changes import Edits
from app.contract.job import Stage
from app.contract.report import Report
from worker.pipelines import measure, reporting
from worker.pipelines.checkpoints import NOWHERE, Checkpoints
from worker.pipelines.clock import Clock
from worker.pipelines.decision import Decision
from worker.pipelines.examine import examine
from worker.pipelines.hear import hear
from worker.pipelines.inputs import Request, read_evaluation, read_inputs
from worker.progress import SILENT, Progress


def detect(request: Request, progress: Progress = SILENT, checkpoints: Checkpoints = NOWHERE) -> Report:
    """Run one job. Raises `SanitizerError` with a problem's code, detail and remedy; mutates and writes nothing."""
    clock = Clock()
    torch.manual_seed(request.options.seed)  # as `sanitize` does, so that both see the same
    with clock.stage(Stage.LOAD):
        loaded = read_inputs(request)
        read_evaluation(request, loaded)
    hearing = hear(loaded.suspect, loaded.parts.fit, request.options, clock, progress, checkpoints)
    examined = examine(hearing, request.options.evidence)
    with clock.stage(Stage.VERIFY):
        triggered = read_evaluation(request, loaded)
        evaluation = measure.evaluate(
            loaded.suspect, loaded.suspect, None, examined.perturbations, loaded.parts, triggered
        )
    return reporting.assemble(
        request, loaded, Decision(examined), evaluation, Edits(), clock.seconds, kind="detect"
    )
