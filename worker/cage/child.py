"""The process that runs one job: entered by the door with the argument FD, confined, in the job's folder.

It reads the order, runs the pipeline that the command line runs, writes the outputs, and says so on file descriptor FD.
torch is imported only in `run`. When the supervisor is gone, the child goes too.
"""

import os
import sys
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from app.contract.artifact import ArtifactKind
from app.contract.confinement import Confinement
from app.contract.job import JobKind, Stage
from app.contract.options import SanitizeOptions
from app.contract.problem import Problem
from app.contract.result import confined
from app.errors import ResourceError, SanitizerError
from worker.cage.messages import (
    KEPT,
    ORDER,
    OUT,
    RESTORED,
    Done,
    Kept,
    Message,
    Order,
    Refused,
    Started,
    Step,
)

if TYPE_CHECKING:
    from worker.classifier import Classifier
    from worker.pipelines.fall import Fallen

ORPHANED = 3


class Wire:
    """Tells the supervisor."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def tell(self, message: Message) -> None:
        """Send one line."""
        os.write(self.descriptor, message.model_dump_json().encode() + b"\n")

    def step(self, stage: Stage, done: int, total: int, **metrics: float) -> None:
        """Be the pipeline's progress."""
        finite = {name: value for name, value in metrics.items() if abs(value) < float("inf")}
        self.tell(Step(stage=stage, done=done, total=total, metrics=finite))


class InFolder:
    """Is the pipeline's checkpoints."""

    def __init__(self, folder: Path, wire: Wire) -> None:
        self.folder = folder
        self.wire = wire

    def restore(self, suspect: "Classifier", options: SanitizeOptions) -> "Fallen | None":
        """Read what the supervisor laid there."""
        from worker.pipelines import checkpoints

        return checkpoints.read(self.folder / RESTORED, suspect, options)

    def keep(self, fallen: "Fallen", options: SanitizeOptions) -> None:
        """Write it, and tell the supervisor; a full disk costs only the checkpoint."""
        from worker.pipelines import checkpoints

        with suppress(OSError):
            checkpoints.write(self.folder / KEPT, fallen, options)
            self.wire.tell(Kept())


def run(folder: Path, wire: Wire, confinement: Confinement) -> None:
    """Run the order that lies in `folder`. Raises `SanitizerError`, or whatever torch raises."""
    from app.reports import as_json
    from worker.device import place
    from worker.pipelines import deliver
    from worker.pipelines.detect import detect
    from worker.pipelines.inputs import Request
    from worker.pipelines.sanitize import sanitize
    from worker.pipelines.screen import screen

    order = Order.model_validate_json((folder / ORDER).read_bytes())
    model = order.needed(ArtifactKind.MODEL)
    request = Request(
        model=model,
        samples=order.needed(ArtifactKind.SAMPLES),
        options=order.options,
        placement=place(order.device),
        triggered=order.path(ArtifactKind.TRIGGERED),
        triggered_target=order.triggered_target,
        reproduce=order.reproduce,
    )
    kept, out, renderers = InFolder(folder, wire), folder / OUT, {deliver.REPORT_JSON: as_json.render}
    match order.kind:
        case JobKind.DETECT:
            deliver.deliver_report(confined(detect(request, wire, kept), confinement), out, renderers)
        case JobKind.SCREEN:
            screened = screen(request, order.needed(ArtifactKind.SUSPECTS), wire, kept)
            deliver.deliver_screening(replace(screened, report=confined(screened.report, confinement)), out)
        case JobKind.SANITIZE:
            deliver.check(out, model)
            result = sanitize(request, wire, kept)
            deliver.deliver(replace(result, report=confined(result.report, confinement)), out, renderers)


def main(confinement: Confinement) -> int:
    """Be called by the door. 0 when the outputs are there or the job was refused, with a message either way."""
    wire = Wire(int(sys.argv[1]))
    threading.Thread(target=_leave_with_the_supervisor, daemon=True).start()
    wire.tell(Started())
    try:
        run(Path.cwd(), wire, confinement)
    except SanitizerError as error:
        wire.tell(Refused(problem=Problem.of(error)))
    except MemoryError:
        wire.tell(
            Refused(problem=Problem.of(ResourceError("The worker has too little memory for this job.")))
        )
    else:
        wire.tell(Done())
    return 0


def _leave_with_the_supervisor() -> None:
    """The supervisor holds the other end of standard input for as long as it lives."""
    while os.read(0, 4096):
        pass
    os._exit(ORPHANED)
