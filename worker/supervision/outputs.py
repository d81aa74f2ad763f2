"""The files of a job: inputs from the store into its folder, outputs from there into the store.

Nothing that a child left is believed: names are ours, links are not followed, sizes are bounded, the report is read
by its schema and must name the digest of the model beside it.
"""

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from app.blobs.interface import Blobs, Staged
from app.contract.artifact import Artifact, ArtifactKind
from app.contract.findings import VerdictLabel
from app.contract.job import Job, JobKind
from app.contract.report import Outcome, Report
from app.contract.result import RESULT
from app.contract.screening import Screening
from app.errors import InputError
from app.ledger.claims import Claim
from worker.cage.messages import ORDER, OUT, Order

REPORT, CHANGES, BEST_CANDIDATE = "report.json", "changes.json", "best-candidate.json"
SCREENING, SHEET = "screening.json", "suspects.png"
LARGEST_TEXT = 64 * 1024 * 1024  # bytes of a report, or of the pruned filters in a list of changes
LARGEST_SHEET = 8 * 1024 * 1024  # bytes; twice what 64 small pictures have at most
GROWTH = (
    2  # how many times the size of the suspect model the repaired one may have, and the difference as text
)
PIECE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Outputs:
    """What a job made, staged."""

    report: Report | Screening
    staged: tuple[tuple[Artifact, Staged], ...]

    @property
    def verdict(self) -> VerdictLabel | None:
        """What is said of the model; a screening says nothing of it."""
        return self.report.verdict.label if isinstance(self.report, Report) else None

    @property
    def outcome(self) -> Outcome | None:
        """What became of the repair; a screening tries none."""
        return self.report.outcome if isinstance(self.report, Report) else None


def fill(folder: Path, held: Claim, blobs: Blobs) -> None:
    """Put the inputs and the order into a new folder. Raises `StorageError`."""
    job = held.job
    order = Order(
        kind=job.kind,
        options=job.options,
        inputs={item.kind: item.name or item.kind.value for item in job.inputs},
        triggered_target=job.triggered_target,
        reproduce=f"curl -X POST $SANITIZER_URL/v1/jobs/{job.id}:rerun",
    )
    for item in job.inputs:
        target = folder / (order.path(item.kind) or "")
        target.parent.mkdir(parents=True)
        blobs.fetch(held.tenant_id, item.digest, target)
    (folder / OUT).mkdir()
    (folder / ORDER).write_text(order.model_dump_json())


@contextmanager
def collected(folder: Path, job: Job, blobs: Blobs) -> Iterator[Outputs]:
    """The outputs that lie in the folder, staged for as long as the context lasts.

    Raises `InputError` (job.bad_output) when they are not what a job leaves, `StorageError`.
    """
    staged: list[tuple[Artifact, Staged]] = []
    try:
        for kind, file_name, limit in _wanted(folder / OUT, job):
            made = stage(folder / OUT / file_name, limit, blobs)
            staged.append((Artifact(digest=made.digest, size=made.size, kind=kind, name=file_name), made))
        report = _report(folder / OUT / _report_name(job))
        _agree(report, job, {artifact.kind: artifact.digest for artifact, _ in staged})
        yield Outputs(report, tuple(staged))
    finally:
        for _, made in staged:
            made.staging.discard()


def _report_name(job: Job) -> str:
    return SCREENING if job.kind is JobKind.SCREEN else REPORT


def _wanted(out: Path, job: Job) -> list[tuple[ArtifactKind, str, int]]:
    """What a job of this kind leaves: what it is, under which name, and with how many bytes at most."""
    wanted = [(ArtifactKind.REPORT, _report_name(job), LARGEST_TEXT)]
    if job.kind is JobKind.SANITIZE:
        model = _input(job, ArtifactKind.MODEL)
        rewritten = GROWTH * model.size
        wanted += [
            (ArtifactKind.REPAIRED_MODEL, model.name or model.kind.value, rewritten),
            (ArtifactKind.CHANGES, CHANGES, LARGEST_TEXT + rewritten),
        ]
        if os.path.lexists(out / BEST_CANDIDATE):  # only where no repair passed, and one was tried
            wanted.append((ArtifactKind.BEST_CANDIDATE, BEST_CANDIDATE, LARGEST_TEXT + rewritten))
    if job.kind is JobKind.SCREEN and os.path.lexists(out / SHEET):  # only where the images can be shown
        wanted.append((ArtifactKind.CONTACT_SHEET, SHEET, LARGEST_SHEET))
    return wanted


def _agree(report: Report | Screening, job: Job, made: Mapping[ArtifactKind, str]) -> None:
    """Refuse a report that is about something else than the job's inputs and outputs."""
    model = _input(job, ArtifactKind.MODEL).digest
    if report.kind != job.kind:
        raise _bad("the report is one of another kind of job")
    if report.model.digest != model:
        raise _bad("the report is about another model than the one that was uploaded")
    if isinstance(report, Screening):
        if report.suspects.digest != _input(job, ArtifactKind.SUSPECTS).digest:
            raise _bad("the report is about other inputs than those that were uploaded")
    elif report.result_digest != made.get(ArtifactKind.REPAIRED_MODEL, model):
        raise _bad("the report names another model than the one beside it")


def _input(job: Job, kind: ArtifactKind) -> Artifact:
    return next(item for item in job.inputs if item.kind is kind)


def stage(path: Path, limit: int, blobs: Blobs) -> Staged:
    """The bytes of a file that a child left. Raises `InputError`, `StorageError`."""
    staging = blobs.stage(limit)
    try:
        with _opened(path) as file:
            while piece := file.read(PIECE):
                staging.write(piece)
        return staging.finish()
    except BaseException:
        staging.discard()
        raise


def _report(path: Path) -> Report | Screening:
    with _opened(path) as file:
        try:
            return RESULT.validate_json(file.read(LARGEST_TEXT))
        except ValueError as error:
            raise _bad("the report does not follow its schema") from error


def _opened(path: Path) -> FileIO:
    """A regular file, and no link to one."""
    try:
        file = FileIO(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK))
    except OSError as error:
        raise _bad(f"{path.name} is not there") from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise _bad(f"{path.name} is no file")
    return file


def _bad(why: str) -> InputError:
    return InputError(
        f"The job ended, but what it left cannot be given back: {why}.",
        code="job.bad_output",
        remedy="Do not use this model before somebody has looked at it; report the job to the operator.",
    )
