"""One job from its claim to its end.

Knows processes, files and the ledger; knows no tensor and no broker.
"""

import logging
import shutil
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from app.contract.job import Stage
from app.contract.problem import Problem
from app.errors import ResourceError, SanitizerError, StorageError, UnavailableError
from app.ledger import claims
from app.ledger.claims import Claim
from app.ledger.reaper import LATE, STALLED
from worker.cage.messages import Done, Kept, Refused, Started, Step
from worker.cage.start import Breach
from worker.supervision import checkpoints
from worker.supervision.child import Child, Misbehaved
from worker.supervision.fraction import Course, course
from worker.supervision.heart import Heart, Reason
from worker.supervision.outputs import collected, fill
from worker.supervision.parts import Parts

EVENT_S = 1.0  # between two events of one stage, at least
log = logging.getLogger(__name__)


@dataclass(slots=True)
class Told:
    """What is known of the job while it runs."""

    course: Course
    done: bool = False
    problem: Problem | None = None
    stage: Stage | None = None
    stepped_at: float = 0.0


def supervise(held: Claim, parts: Parts, draining: threading.Event) -> None:
    """Run a claimed job to one of its ends. Raises nothing that the job could cause."""
    log.info("job %s attempt %d begins", held.job.id, held.job.attempt)
    folder = Path(tempfile.mkdtemp(prefix=f"{held.job.id}-{held.job.attempt}-", dir=parts.folder))
    try:
        with Heart(held, parts, draining) as heart:
            _run(held, parts, folder, heart)
        checkpoints.drop(held, parts)
    except StorageError as error:
        _fail(held, parts, Problem.of(error))
    except UnavailableError:
        log.exception("job %s is left to the reaper", held.job.id)
    except OSError as error:
        log.exception("job %s attempt %d: this machine gave out", held.job.id, held.job.attempt)
        _lose(held, parts, f"its machine gave out ({error.strerror})")
    except Exception as error:
        # A defect of ours would end the next attempt too, but another version may run that one: so it counts as a loss.
        log.exception("job %s attempt %d met a defect", held.job.id, held.job.attempt)
        _lose(held, parts, f"a defect of its supervisor ({type(error).__name__})")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(held: Claim, parts: Parts, folder: Path, heart: Heart) -> None:
    fill(folder, held, parts.blobs)
    checkpoints.restore(folder, held, parts)
    told = Told(course(held.job.kind, held.job.options))
    with Child(folder, parts.cage(folder), parts.clocks.grace_s) as child:
        try:
            _listen(held, parts, folder, child, heart, told)
            fate = child.fate()
        except Misbehaved as error:
            fate = f"it sent {error}"
        words, unconfined = child.last_words(), child.unconfined()
    if heart.reason is not None:
        _end(held, parts, heart.reason)
    elif problem := told.problem or unconfined or _problem(child.breach):
        _fail(held, parts, problem)
    elif told.done:
        _succeed(held, parts, folder)
    else:
        log.warning("job %s attempt %d: %s\n%s", held.job.id, held.job.attempt, fate, words)
        _lose(held, parts, fate)


def _problem(breach: Breach | None) -> Problem | None:
    """What to say of a child that used up more than it may."""
    match breach:
        case None:
            return None
        case Breach.MEMORY:
            return Problem.of(ResourceError("The job took more memory than this worker gives to one."))
        case Breach.FOLDER | Breach.OUTPUT:
            error = ResourceError("The job wrote more than this worker lets one write.", code="resource.disk")
            return Problem.of(error)
        case Breach.WALL:
            return LATE


def _listen(held: Claim, parts: Parts, folder: Path, child: Child, heart: Heart, told: Told) -> None:
    """Hear the child out, or stop it when there is a reason to."""
    for message in child.messages():
        if heart.reason is not None:
            child.stop()
            return
        match message:
            case Started():
                _step(held, parts, Step(stage=Stage.LOAD, done=0, total=1), told)
            case Step():
                _step(held, parts, message, told)
            case Kept():
                checkpoints.keep(folder, held, parts)
            case Done():
                told.done = True
            case Refused(problem=problem):
                told.problem = problem


def _step(held: Claim, parts: Parts, step: Step, told: Told) -> None:
    """Write progress down, at most once a second and at every new stage; a silent ledger costs only the line."""
    told.course = told.course.moved(step)
    now = time.monotonic()
    if step.stage is told.stage and now - told.stepped_at < EVENT_S:
        return
    told.stage, told.stepped_at = step.stage, now
    behind = told.course.fraction
    data = {"done": step.done, "total": step.total, "metrics": step.metrics, "fraction": behind}
    try:
        with parts.database.write() as tx:
            claims.step(tx, held, step.stage, behind, data, parts.clocks)
    except ResourceError as error:
        log.warning("a step of job %s was not written down: %s", held.job.id, error)


def _succeed(held: Claim, parts: Parts, folder: Path) -> None:
    def write() -> bool:
        with parts.database.write() as tx:
            artifacts = [artifact for artifact, _ in outputs.staged]
            if not claims.succeed(tx, held, artifacts, outputs.verdict, outputs.outcome, parts.keep_s):
                return False
            for _, staged in outputs.staged:
                parts.blobs.publish(held.tenant_id, staged)
            return True

    try:
        with collected(folder, held.job, parts.blobs) as outputs:
            _told(held, "succeeded", written=parts.insist(write))
    except ResourceError:
        raise
    except SanitizerError as error:
        _fail(held, parts, Problem.of(error))


def _end(held: Claim, parts: Parts, reason: Reason) -> None:
    def write() -> bool:
        with parts.database.write() as tx:
            return _ended(tx, held, reason)

    _told(held, reason.value, written=reason is not Reason.LOST and parts.insist(write))


def _ended(tx: sa.Connection, held: Claim, reason: Reason) -> bool:
    match reason:
        case Reason.CANCELED:
            return claims.canceled(tx, held)
        case Reason.DRAINED:
            return claims.release(tx, held)
        case Reason.LATE:
            return claims.fail(tx, held, LATE)
        case _:
            return claims.fail(tx, held, STALLED)


def _fail(held: Claim, parts: Parts, problem: Problem) -> None:
    def write() -> bool:
        with parts.database.write() as tx:
            return claims.fail(tx, held, problem)

    _told(held, f"failed with {problem.code}", written=parts.insist(write))


def _lose(held: Claim, parts: Parts, fate: str) -> None:
    def write() -> bool:
        with parts.database.write() as tx:
            return claims.lose(tx, held, fate, parts.clocks)

    _told(held, "was lost", written=parts.insist(write))


def _told(held: Claim, end: str, *, written: bool) -> None:
    note = "" if written else "; somebody else has it by now"
    log.info("job %s attempt %d %s%s", held.job.id, held.job.attempt, end, note)
